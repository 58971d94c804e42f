"""Ratios are medians of turns, bad flags are refused, and accuracy is computed from answers."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import (
    in_turns,
    inference,
    memory_growth,
    memory_layer,
    peers,
    supervision_step,
    training_step,
    window_attention,
)
from benchmarks.peer_scripts import use_our_package

from .refusals import refusal

CPU = torch.device("cpu")
Main = Callable[[list[str]], int]


def test_a_ratio_is_taken_turn_by_turn() -> None:
    found = in_turns.ratio([2.0, 30.0, 8.0, 4.0, 5.0], [1.0, 10.0, 2.0, 4.0, 1.0])
    assert found == {
        "median": 3.0,
        "quartiles": [2.0, 4.0],
        "lowest": 1.0,
        "highest": 5.0,
        "repetitions": 5,
    }
    assert in_turns.told(found) == "3.00 (1.00 to 5.00 in 5 repetitions)"
    with pytest.raises(ValueError, match="1 repetitions tell nothing of a spread"):
        in_turns.ratio([1.0], [1.0])
    with pytest.raises(ValueError, match="shorter"):
        in_turns.ratio([1.0, 2.0], [1.0])


def test_ways_take_turns_in_an_order_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(in_turns.time, "perf_counter", lambda: float(next(clock)))
    calls: list[tuple[str, int]] = []
    ways = {name: lambda turn, name=name: calls.append((name, turn)) for name in ("a", "b")}
    seconds = in_turns.in_turns(ways, CPU, repetitions=2, turns=2)
    assert calls[:2] == [("a", 0), ("b", 0)]  # these do not count
    assert calls[2:6] == [("a", 0), ("b", 0), ("b", 1), ("a", 1)]
    assert calls[6:] == [("b", 0), ("a", 0), ("a", 1), ("b", 1)]
    assert seconds == {"a": [2.0, 2.0], "b": [2.0, 2.0]}  # a call is a second of this clock


@pytest.mark.parametrize(
    ("main", "words", "sentence"),
    [
        (inference.main, ["--repetitions", "6"], "--repetitions 6: at least 7 are taken"),
        (inference.main, ["--threads", "0"], "--threads 0: at least one"),
        (inference.main, ["--device", "tpu"], "--device tpu: cpu or cuda"),
        (inference.main, ["--json", "no/x.json"], "--json no/x.json: there is no folder no"),
        (inference.main, ["--puzzles", "0"], "--puzzles 0: at least one"),
        (inference.main, ["--puzzles", "1", "--run", "nowhere"], "nowhere"),
        (training_step.main, [], "the following arguments are required: --official"),
        (training_step.main, ["--official", "no"], "--official no: there is no checkout of"),
        (training_step.main, ["--official", "."], "--official .: there is no checkout of Samsung"),
        (training_step.main, ["--official", "."], "TinyRecursiveModels: no pretrain.py"),
        (training_step.main, ["--official", "empty"], "--official empty: it cannot be imported"),
        (training_step.main, ["--official", "empty", "--batch", "0"], "--batch 0: at least one"),
        (memory_layer.main, [], "titans-pytorch is not installed: pip install titans-pytorch"),
        (memory_layer.main, ["--tokens", "0"], "--rows 2 --tokens 0: at least one of each"),
        (supervision_step.main, [], "not installed: tiny_recursive_model, x_transformers: pip"),
        (supervision_step.main, ["--batch", "0"], "--batch 0: at least one puzzle"),
        (supervision_step.main, ["--width", "24"], "--width 24: a multiple of 16"),
        (window_attention.main, ["--window", "4096"], "--window 4096 --tokens 4096: a window cuts"),
        (memory_growth.main, ["--lengths", "8"], "--lengths [8]: give at least two different"),
        (peers.main, ["--official", "no"], "--official no: there is no such folder"),
        (peers.main, ["--only", "nothing"], "invalid choice: 'nothing'"),
        (peers.main, ["--out", "empty/pretrain.py/x"], "no output can be written there: Not a dir"),
        (peers.main, ["--only", "training_step", "--out", "/proc"], "/proc: no output can be"),
    ],
)
def test_held_wrong(
    main: Main,
    words: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # so that what is put there is taken away again
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "pretrain.py").touch()
    assert sentence in refusal(main, words, capsys)


def test_what_is_missing_on_our_side_is_not_said_of_the_checkout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pretrain.py").touch()
    monkeypatch.setitem(sys.modules, "tyro", None)
    for name in ("benchmarks.gpu_inside", "reference_reasoner.engine.config.sources"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    said = refusal(training_step.main, ["--official", str(tmp_path)], capsys)
    assert "error: our own package cannot be imported: import of tyro halted" in said


def test_indices_come_from_all_over_the_puzzles() -> None:
    assert inference.evenly(10, 4) == [0, 2, 5, 7]
    assert inference.evenly(3, 9) == inference.evenly(3, None) == [0, 1, 2]


@pytest.fixture(scope="module")
def case() -> inference.Case:
    """Six test puzzles that the weights that ship are asked for."""
    use_our_package()
    return inference.shipped_case(CPU, 6)


def test_both_sides_answer_the_same_puzzles_and_are_scored_by_their_solutions(
    case: inference.Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reference_reasoner.reasoner.tasks import solving

    attempt, asked = solving.attempt, dict[float, list[str]]()

    def noted(task: Any, model: Any, puzzles: Sequence[str], **how: Any) -> list[Any]:
        asked.setdefault(how["threshold"], []).extend(puzzles)
        return attempt(task, model, puzzles, **how)

    monkeypatch.setattr(solving, "attempt", noted)
    found = inference.measured(case, CPU, batch=4, repetitions=2)
    assert set(asked) == {case.threshold, inference.NEVER_SURE}
    warm_up = list(case.puzzles[:4])
    everything = list(case.puzzles)
    assert list(asked.values()) == [everything + warm_up + 2 * everything] * 2
    assert found["full"]["mean_steps"] == case.max_steps > found["halting"]["mean_steps"]
    assert found["halting"]["accuracy"] >= 5 / 6
    assert found["puzzles"] == len(set(case.puzzles)) == 6

    other = inference.measured(
        replace(case, solutions=[*case.solutions[:-1], "1" * 36]), CPU, batch=4, repetitions=2
    )
    lost = found["halting"]["accuracy"] - other["halting"]["accuracy"]
    assert lost == pytest.approx(1 / 6)  # a solution that nobody gives is a puzzle not solved
    with pytest.raises(ValueError, match="not of the puzzles"):
        inference._scored(
            attempt(case.task, case.model, case.puzzles[::-1], threshold=0.5, max_steps=1), case
        )


def test_solving_is_timed_with_the_graphs_that_one_solver_keeps(
    case: inference.Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs of no GPU: what would be recorded is run, and when that was is noted."""
    from reference_reasoner.reasoner.tasks import solving

    recorded, solvers, at_each_turn = list[Any](), list[Any](), list[int]()
    three, seconds_of = inference.fewer(case, 3), in_turns.seconds_of
    eager = inference.measured(three, CPU, batch=2, repetitions=2)

    class Recording(solving.BatchSolver):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__(model, capture=lambda run: recorded.append(run) or run)
            solvers.append(self)

    def noted(work: Callable[[], object], device: torch.device) -> float:
        at_each_turn.append(len(recorded))
        return seconds_of(work, device)

    monkeypatch.setattr(solving, "BatchSolver", Recording)
    monkeypatch.setattr(in_turns, "seconds_of", noted)
    found = inference.measured(replace(three), CPU, batch=2, repetitions=2)
    assert len(solvers) == 1
    assert len(recorded) == 2  # batches of two and of one, whatever is left of them
    assert at_each_turn == [len(recorded)] * 8  # two ways, two batches, twice
    for way in ("halting", "full"):
        for score in ("accuracy", "mean_steps"):
            assert found[way][score] == eager[way][score]


def test_a_ratio_holds_if_it_is_large_and_costs_at_most_a_point() -> None:
    def found(ratio: float, lost: float) -> dict[str, Any]:
        side = {"accuracy": 0.9, "mean_steps": 2.0, "puzzles_per_s": 5.0}
        spread = {"median": ratio, "lowest": ratio, "highest": ratio, "repetitions": 7}
        return {
            "batch": 64,
            "puzzles": 10,
            "halting": side,
            "full": side,
            "full_over_halting": spread,
            "points_lost": lost,
        }

    assert inference.judged("x", found(2.5, 1.0)).holds
    assert not inference.judged("x", found(2.4, 0.0)).holds
    assert not inference.judged("x", found(9.0, 1.1)).holds


def test_growth_is_fitted_to_each_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def linear_and_square(depth: int, tokens: int, threads: int, repetitions: int) -> dict:
        return {"tokens": tokens, "seconds": [tokens * 1e-3] * repetitions, "peak_bytes": tokens**2}

    monkeypatch.setattr(memory_growth, "apart", linear_and_square)
    out = tmp_path / "growth.json"
    assert memory_growth.main(["--json", str(out)]) == 1  # the memory grows with the square
    found = json.loads(out.read_text(encoding="utf-8"))
    assert [line["holds"] for line in found["lines"]] == [True, False, True, False]
    deep = found["layers"]["deep memory"]
    assert deep["time_exponent"] == pytest.approx(1)
    assert deep["memory_exponent"] == pytest.approx(2)


def test_lengths_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def noted(depth: int, tokens: int, threads: int, repetitions: int) -> dict:
        asked.append(tokens)
        return {"tokens": tokens, "seconds": [len(asked)] * repetitions, "peak_bytes": len(asked)}

    monkeypatch.setattr(memory_growth, "apart", noted)
    few, many = memory_growth.in_rounds(1, [8, 16], 1, 7)
    assert asked == [8, 16] * 4
    assert few["seconds"] == [1, 1, 3, 3, 5, 5, 7, 7]
    assert (few["peak_bytes"], many["peak_bytes"]) == (7, 8)


def test_a_length_is_measured_in_a_process_of_its_own() -> None:
    found = memory_growth.apart(2, 128, 1, 7)
    assert found["tokens"] == 128
    assert len(found["seconds"]) == 7
    assert min(found["seconds"]) > 0
    assert found["peak_bytes"] is None or found["peak_bytes"] >= 0


def test_a_length_that_fails_is_told() -> None:
    with pytest.raises(SystemExit, match=r"128 tokens failed: .*--threads 0: at least one"):
        memory_growth.apart(1, 128, 0, 7)
