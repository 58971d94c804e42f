"""What the reasoner is benched at: puzzles at full depth and stopped early, and real steps."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reference_reasoner.engine.config.fields import overlay
from reference_reasoner.engine.profiling.bench.workloads import compiled_blocks, timings
from reference_reasoner.engine.profiling.counted.memory_plan import Plan, carry_bytes, fit
from reference_reasoner.engine.profiling.measured.machine import Limits
from reference_reasoner.engine.profiling.measured.passes import RealStep
from reference_reasoner.engine.profiling.model_inputs import untrained_model
from reference_reasoner.engine.seeding import seed_globals
from reference_reasoner.engine.training.task import Task
from reference_reasoner.project import BENCHED, PRESETS
from reference_reasoner.reasoner.models.full_model import RecursiveReasoner
from reference_reasoner.reasoner.models.serving.graphed_solving import GraphedReasoner
from reference_reasoner.reasoner.tasks import workloads
from reference_reasoner.reasoner.tasks.mazes import MazeTask, maze_smoke
from reference_reasoner.reasoner.tasks.recall import RecallTask, lm25m, recall_smoke
from reference_reasoner.reasoner.tasks.sudoku import SudokuTask
from reference_reasoner.reasoner.tasks.sudoku_presets import (
    SudokuConfig,
    grid25m,
    smoke,
    trm7m,
    trm7m_mixing,
)

from ...engine.profiling.bare_machine import bench_on_a_bare_machine
from ...engine.profiling.bench.test_workloads import Backend
from ...engine.profiling.fakes import fake_cpu, fake_gpu
from .flood_fill import FloodFillTask, flood_fill


def flooded(max_steps: int) -> tuple[FloodFillTask, RecursiveReasoner]:
    config = overlay(flood_fill(), {"model.halting.max_steps": max_steps}, "test")
    task = FloodFillTask(config)
    seed_globals(0, "init")
    built = task.build_model().eval()
    assert isinstance(built, RecursiveReasoner)
    return task, built


@pytest.mark.parametrize("logit", [-5.0, 50.0])
def test_a_puzzle_takes_all_its_steps_or_four_whatever_the_head_says(logit: float) -> None:
    task, model = flooded(max_steps=6)
    with torch.no_grad():
        model.halting.linear.bias.fill_(logit)
    calls: list[Tensor] = []
    model.halting.register_forward_hook(lambda *_: calls.append(torch.empty(0)))
    for workload, steps in zip(task.workloads(model), (6, 4), strict=True):
        calls.clear()
        found: Any = workload.run()
        assert len(calls) == steps
        assert found.steps.tolist() == [steps]
        *_, last = model.at_depth(torch.ones(1, 10, dtype=torch.int64), steps)
        torch.testing.assert_close(found.output, last.logits)


def test_a_workload_says_what_runs() -> None:
    task, model = flooded(max_steps=6)
    assert {each.name: each.description for each in task.workloads(model)} == {
        "full_depth": "flood_fill, 1 example of 10 tokens + 2 persistent ones, "
        "6 supervision steps of 4 passes through 1 block",
        "halting": "flood_fill, 1 example of 10 tokens + 2 persistent ones, "
        "4 of 6 supervision steps of 4 passes through 1 block, stopped by count: the weights are "
        "untrained",
    }
    with torch.device("meta"):
        whole, _ = SudokuTask(grid25m()).workloads(SudokuTask(grid25m()).build_model())
    assert whole.description == (
        "sudoku, 1 example of 81 tokens + 16 persistent ones, "
        "16 supervision steps of 21 passes through 2 blocks"
    )


def test_without_persistent_tokens_or_more_than_four_steps_less_is_said() -> None:
    model = replace(flood_fill().model, persistent_tokens=0)
    task = FloodFillTask(replace(flood_fill(), model=model))  # which has four steps
    (only,) = task.workloads(task.build_model())
    assert only.name == "full_depth"
    assert only.description.startswith("flood_fill, 1 example of 10 tokens, 4 supervision steps")


def test_a_causal_model_reads_a_whole_sequence_at_full_depth() -> None:
    task = RecallTask(recall_smoke())
    model = task.build_model().eval()
    assert isinstance(model, RecursiveReasoner)
    (workload,) = task.workloads(model)
    assert workload.name == "prefill"
    assert workload.description == (
        "recall, 1 example of 14 tokens + 4 persistent ones, "
        "3 supervision steps of 4 passes through 1 block"
    )
    *_, last = model.at_depth(*task.example_input(), 3)
    torch.testing.assert_close(workload.run(), last.logits)
    (row,), _ = timings(task, fake_gpu(), Limits(warm_up=0, samples=1))
    assert (row["workload"], row["mode"]) == ("prefill", "eager")


@pytest.mark.parametrize("task", [SudokuTask(smoke()), RecallTask(recall_smoke())])
def test_by_graphs_it_is_a_copy_that_runs(task: Task[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[Any] = []

    def capture(run: Any) -> Any:
        recorded.append(run)
        run()
        return run

    monkeypatch.setattr(workloads, "captured", capture)
    monkeypatch.setattr(workloads, "GraphedReasoner", partial(GraphedReasoner, capture=capture))
    backend = Backend()
    machine = replace(fake_gpu(compiler=backend), cuda_graphs=True)
    rows, failure = timings(task, machine, Limits(warm_up=0, samples=1))
    assert failure is None
    modes = ["eager", "blocks compiled", "blocks compiled, CUDA graph"]
    if task.causal:  # its blocks unroll a loop over chunks
        modes = ["eager", "CUDA graph"]
    names = [each.name for each in task.workloads(task.build_model())]
    assert [(row["workload"], row["mode"]) for row in rows] == [
        (name, mode) for mode in modes for name in names
    ]
    assert len(recorded) == 1  # one batch size, one step for however many are taken
    assert bool(backend.graphs) == (not task.causal)


def test_a_copy_works_with_its_own_weights() -> None:
    config = overlay(smoke(), {"training.activation_checkpointing": True}, "test")
    reasoner = untrained_model(SudokuTask(config), torch.device("cpu")).eval()
    assert isinstance(reasoner, RecursiveReasoner)
    tokens = torch.ones(1, 16, dtype=torch.int64)
    own = workloads.fixed_copy(reasoner, torch.float32, None)
    with torch.no_grad():
        assert torch.equal(own(tokens).answer, reasoner(tokens).answer)
        for parameter in own.backbone.parameters():
            parameter.zero_()
        assert not torch.equal(own(tokens).answer, reasoner(tokens).answer)
        half = workloads.fixed_copy(reasoner, torch.bfloat16, None)
        assert half(tokens).answer.dtype == torch.bfloat16


def test_what_cannot_be_recorded_leaves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run: Any) -> Any:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr(workloads, "captured", refuse)
    machine = replace(fake_gpu(), cuda_graphs=True)
    (row,), failure = timings(RecallTask(recall_smoke()), machine, Limits(warm_up=0, samples=1))
    assert row["mode"] == "eager"
    assert failure == "CUDA graph: RuntimeError: operation not permitted when stream is capturing"


def test_solving_with_compiled_blocks_gives_the_same() -> None:
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    task, model = flooded(max_steps=6)
    whole, _ = task.workloads(model)
    with torch.inference_mode():
        eager: Any = whole.run()
        question = model.question(torch.ones(1, 10, dtype=torch.int64))
        with compiled_blocks(model, backend):
            assert model.backbone.layout(question, 2, None) is not None
            compiled: Any = whole.run()
            assert 1 <= len(graphs) <= 2  # and not one a pass
        torch.testing.assert_close(compiled.output, eager.output)
        torch.testing.assert_close(compiled.logit, eager.logit)


TASKS: list[Task[Any]] = [
    SudokuTask(smoke()),
    SudokuTask(grid25m()),
    MazeTask(maze_smoke()),
    RecallTask(recall_smoke()),
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_example_looks_like_one_of_training(task: Task[Any]) -> None:
    example = task.example_candidate()
    assert example is not None
    trained_on = task.datasets().train.example(0, torch.Generator())
    assert {name: (value.shape, value.dtype) for name, value in example.items()} == {
        name: (value.shape, value.dtype) for name, value in trained_on.items()
    }
    (tokens,) = task.example_input()
    assert example["tokens"].shape == tokens.shape[1:]


def test_no_file_is_needed_for_the_example() -> None:
    task = SudokuTask(overlay(grid25m(), {"data.folder": "nowhere"}, "test"))
    example = task.example_candidate()
    assert (example["labels"] >= 2).all()
    assert ((example["tokens"] == 1) | (example["tokens"] == example["labels"])).all()


def test_a_real_step_keeps_its_rows_in_the_carry() -> None:
    task = SudokuTask(overlay(smoke(), {"training.accumulation_steps": 3}, "test"))
    step = RealStep(task, task.example_candidate(), fake_cpu())
    before = {name: value.clone() for name, value in step.state.model.state_dict().items()}
    step()
    first = step.state.carry
    step()
    carry = step.state.carry
    assert first is not None
    assert carry is not None
    # the head is never sure so early: rows leave only when their steps are used up
    assert torch.equal(carry["steps"], first["steps"] % task.reasoner.halting.max_steps + 1)
    assert sum(value.nbytes for value in carry.values()) == carry_bytes(task)
    after = step.state.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "halting.linear.bias" in moved
    assert step.state.ema is not None


@cache
def planned(make: Callable[[], SudokuConfig]) -> Plan:
    return fit(SudokuTask(make()), 5 * 2**30)


def test_a_carry_is_two_states_and_a_few_numbers_a_row() -> None:
    # 97 tokens of width 768 in float32, twice; tokens and labels; six numbers and a flag
    row = 2 * 97 * 768 * 4 + 2 * 81 * 8 + 6 * 8 + 1
    assert carry_bytes(SudokuTask(grid25m())) == 768 * row
    assert planned(grid25m).fixed_bytes["old_and_new_carry"] == 2 * 768 * row


@pytest.mark.parametrize("make", [grid25m, trm7m, trm7m_mixing])
def test_a_preset_for_puzzles_is_planned_for_five_gib(make: Callable[[], SudokuConfig]) -> None:
    training = make().training
    plan = planned(make)
    (option,) = (
        each
        for each in plan.options
        if each.activation_checkpointing == training.activation_checkpointing
    )
    assert training.accumulation_steps >= option.accumulation_steps
    assert training.batch_size % training.accumulation_steps == 0
    assert math.ceil(training.batch_size / training.accumulation_steps) <= option.micro_batch


def test_the_product_is_benched() -> None:
    assert BENCHED == "grid25m"
    assert PRESETS[BENCHED] == "sudoku"
    assert RecallTask(lm25m()).example_candidate()["tokens"].shape == (2048,)


def test_a_preset_for_puzzles_is_benched_on_a_bare_machine(project: Path) -> None:
    result, said = bench_on_a_bare_machine(project, "smoke")
    assert (result["task"], result["preset"]) == ("sudoku", "smoke")
    assert result["training_step_input"].startswith("example_candidate()")
    assert (result["batch_examples"], result["accumulation_steps"]) == (32, 1)
    assert ("skipped: no GPU" in said) == (not torch.cuda.is_available())
