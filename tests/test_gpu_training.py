"""The GPU work, rehearsed on a CPU; what its judges and tables make of numbers."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_training
from benchmarks.gpu_data import check
from benchmarks.gpu_official import official_or_reason
from benchmarks.gpu_piece import Piece, command_line
from benchmarks.gpu_pieces import favoured, pays
from benchmarks.gpu_plan import lines, prediction
from benchmarks.gpu_project import Budget, PieceError, Project
from benchmarks.gpu_recipes import MODELS, rehearsed
from benchmarks.gpu_runs import Session, curve
from results.gpu_tables import gpu

from .reference import render_reference
from .refusals import refusal

MODEL = "trm7m"
STRATA = {"guesses_0", "guesses_1_to_4", "guesses_5_up"}


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Path:
    """What both pieces of one model write, with the template as it is now."""
    folder = tmp_path_factory.mktemp("gpu")
    project = render_reference(template, folder / "project")
    words = ["--rehearse", "--final", "--models", MODEL, "--project", str(project)]
    assert gpu_training.main([*words, "--out", str(folder / "out")]) == 0
    return folder / "out"


def piece(rehearsal: Path, name: str) -> dict[str, Any]:
    return json.loads((rehearsal / f"{name}.json").read_text(encoding="utf-8"))


def test_both_pieces_train_score_and_keep_the_weights(rehearsal: Path) -> None:
    first, second = (piece(rehearsal, name) for name in ("first", "second"))
    assert first["data"]["training_puzzles"] == {"shipped": 3000, "minimal": 40}
    assert first["data"]["made_here"]
    assert not second["data"]["made_here"]
    assert second["favoured"] == MODEL
    for each in (first, second):
        model = each["models"][MODEL]
        assert model["curve"][0].keys() == {"device_seconds", "step", "accuracy"} | STRATA
        assert {f"accuracy_{name}" for name in STRATA} < model["validation"]["scores"].keys()
        assert model["validation"]["step"] == model["steps"] > 0
        assert [(rehearsal / name).stat().st_size > 0 for name in each["weights"]["files"]] == [
            True
        ]
        assert each["steps"]["models"][MODEL]["eager"]["median_ms"] > 0
    assert first["steps"]["official"] == {"skipped": "skipped: no official checkout"}
    assert "test" not in first
    assert second["models"][MODEL]["resumed"]
    assert second["models"][MODEL]["steps"] > first["models"][MODEL]["steps"]
    assert second["test"][MODEL]["examples"] == 500
    assert len(second["test_ledger"]) == 1


def test_the_table_says_what_is_left_to_run_and_shows_no_rehearsal(
    rehearsal: Path, tmp_path: Path
) -> None:
    nothing = gpu(tmp_path)
    assert "--piece first" in "\n".join(nothing)
    assert gpu(rehearsal) == nothing
    found = piece(rehearsal, "second") | {"rehearsal": False}
    (tmp_path / "second.json").write_text(json.dumps(found), encoding="utf-8")
    text = "\n".join(gpu(tmp_path))
    steps = found["models"][MODEL]["steps"]
    assert f"| {MODEL} |  | {steps:,} | test | " in text
    assert f"| {MODEL} | eager | 8 |" in text
    assert "Not measured yet" not in text


def test_no_path_of_a_machine_gets_into_the_results(rehearsal: Path) -> None:
    for name in ("first", "second"):
        text = (rehearsal / f"{name}.json").read_text(encoding="utf-8")
        assert str(rehearsal) not in text


def test_changed_data_is_refused(rehearsal: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(rehearsal / "work" / "data", tmp_path / "data"))
    assert check(data)["bytes"] > 0
    with (data / "9x9-train.txt").open("a") as file:
        file.write("\n")
    with pytest.raises(PieceError, match="not the file that its manifest names"):
        check(data)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name a --piece, --plan or --rehearse"),
        (["--piece", "first"], "--out is missing"),
        (["--piece", "third"], "invalid choice: 'third'"),
        (["--piece", "first", "--out", "x", "--minutes", "11"], "--minutes 11: more than 0"),
        (["--piece", "first", "--out", "x", "--official", "no"], "--official no: there is no"),
        (["--piece", "first", "--out", "x", "--project", "no"], "--project no: there is no"),
        (["--piece", "first", "--out", "x", "--data", "no"], "--data no: `--piece data`"),
        (["--piece", "first", "--out", "x", "--flags", "no"], "--flags no: write section.field"),
        (["--piece", "first", "--out", "x", "--work", "there"], "runs of another first piece"),
        (["--piece", "first", "--out", "file/x"], "file/x: no output can be written there: Not a"),
        (["--rehearse", "--out", "x", "--work", "file/x"], "file/x: no output can be written"),
        (["--piece", "first", "--out", "x", "--work", 300 * "x"], "written there: File name too"),
    ],
)
def test_held_wrong(
    words: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there" / "project" / "runs").mkdir(parents=True)
    (tmp_path / "file").touch()
    # what is not refused would begin with this
    monkeypatch.setattr(gpu_training, "PIECES", dict.fromkeys(gpu_training.PIECES, lambda _: []))
    assert sentence in refusal(gpu_training.main, words, capsys)


def test_a_curve_counts_the_seconds_of_all_sessions() -> None:
    def session(first_record: int, to_step: int, seconds: float) -> Session:
        return Session(
            first_record=first_record,
            to_step=to_step,
            device_seconds=seconds,
            start_seconds=5.0,
            saving_seconds=1.0,
        )

    def evaluation(step: int, wall_s: float) -> dict[str, Any]:
        return {"kind": "evaluation", "step": step, "wall_s": wall_s, "ema/accuracy": 0.5}

    # stopped on step 20 before its evaluation, which the next session does first
    records = [evaluation(0, 1.0), {"kind": "train"}, evaluation(20, 2.0), evaluation(40, 9.0)]
    found = curve(records, [session(0, 20, 100.0), session(2, 50, 60.0)])
    assert [(each["step"], each["device_seconds"]) for each in found] == [
        (0, 6.0),
        (20, 107.0),
        (40, 114.0),
    ]


def test_compiling_pays_where_it_gives_more_steps() -> None:
    eager = {"median_ms": 20.0}
    compiled = {"median_ms": 10.0, "first_steps_s": 60.0}
    times: Mapping[str, Any] = {"eager": eager, "compiled": compiled}
    assert pays(times, 400)
    assert not pays(times, 100)  # 4,000 steps against 5,000
    assert not pays({"eager": eager, "compiled": {"problem": "no compiler"}}, 400)
    assert not pays({}, 400)


def test_the_hardest_puzzles_say_which_model_is_favoured() -> None:
    def scored(value: float) -> dict[str, Any]:
        scores = {"accuracy": {"value": 1 - value}, "accuracy_guesses_5_up": {"value": value}}
        return {"validation": {"scores": scores}}

    models = {"one": scored(0.2), "other": scored(0.3), "third": {"problem": "out of memory"}}
    assert favoured(models) == "other"
    assert favoured({"third": models["third"]}) is None


def test_a_plan_is_arithmetic() -> None:
    costs = {
        "parameters": 5_000_000,
        "passes": 6,
        "passes_with_gradient": 3,
        "training_flops_per_puzzle": 14e9,
        "forward_flops_per_puzzle": 7e9,
        "activation_bytes_per_puzzle": 2**20,
        "state_bytes": 2**30,
        "carry_bytes_per_puzzle": 2**10,
        "batch_size": 1000,
        "supervision_steps": 16,
    }
    found = prediction(costs, 100)
    assert found["step_ms"] == pytest.approx(50)  # 14 TFLOP at 280 TFLOP/s
    assert found["steps"] == pytest.approx(2000)
    assert found["evaluation_s"] == pytest.approx(2 * 200 * 16 * 7e9 / 140e12)
    text = "\n".join(lines({"one": costs}, [("first", "one", 100.0), ("first", "else", 20.0)]))
    assert "2,000 steps, 2.00 M puzzle-steps" in text
    assert "in all    120 s" in text


def test_a_rehearsal_shrinks_a_recipe_and_keeps_the_rest() -> None:
    for recipe in MODELS.values():
        flags = rehearsed(recipe).flags()
        assert flags[: len(recipe.flags())] == recipe.flags()
        assert "--model.backbone.width=32" in flags


def test_a_checkout_without_what_it_needs_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "ema.py").write_text("import no_such_module_at_all\n")
    step, reason = official_or_reason(str(tmp_path), {}, "cpu")
    assert step is None
    assert "cannot be imported: No module named" in str(reason)


def test_a_command_names_flags_in_place_of_paths() -> None:
    words = ["--piece", "first", "--out", "/a/b", "--models", "trm7m", "--data", "/c"]
    said = "python -m benchmarks.gpu_training --piece first --out OUT --models trm7m --data DATA"
    assert command_line(words) == said


def test_a_model_whose_steps_failed_or_that_has_no_time_is_not_trained(tmp_path: Path) -> None:
    settings = gpu_training.settings_of(
        ["--piece", "first", "--out", str(tmp_path), "--work", str(tmp_path / "work")]
    )
    made = Piece(
        name="first",
        settings=settings,
        budget=Budget.of_minutes(1),
        project=Project(folder=tmp_path),
        data=tmp_path,
        result={"models": {}, "steps": {"models": {"trm7m": {"eager": {"problem": "no wheel"}}}}},
    )
    made.settings.work.mkdir(exist_ok=True)
    made.train("trm7m", 100.0, compiled=False)
    made.train("grid25m", 29.0, compiled=False)
    assert made.problems == [
        "trm7m is not trained, its steps failed: no wheel",
        "29 s are too few to train grid25m",
    ]
    assert json.loads((tmp_path / "first.json").read_text())["models"]["trm7m"]["problem"]


def test_a_budget_runs_out() -> None:
    budget = Budget(seconds=10.0, began=time.monotonic() - 8.0)
    assert 1.0 < budget.left < 2.0
