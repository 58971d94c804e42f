"""The report: one page with everything inside."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from reference_reasoner.engine.data.dataset import Dataset
from reference_reasoner.engine.evaluation.report import page, write_report
from reference_reasoner.engine.evaluation.scoring import evaluate_run
from reference_reasoner.engine.tracking.manifest import RunManifest
from reference_reasoner.engine.training.checkpoint import load_weights
from reference_reasoner.engine.training.task import ReportSection, Row

from ..toy.runs import facts, run_toy
from ..toy.task import ToyTask, toy

FORM = "Mine.\n<!-- fill: run -->\n<!-- fill: scores -->\n<!-- fill: environment -->\n"


class ReportingTask(ToyTask):
    def report_sections(self, rows: Sequence[Row], folder: Path) -> list[ReportSection]:
        return [ReportSection(title="Of the task", text=f"{len(rows)} rows")]


@pytest.fixture
def run_dir(project: Path) -> Path:
    run_toy(project / "run", {"training.ema_decay": 0.9})
    return project / "run"


def report(run_dir: Path) -> str:
    path = write_report(ReportingTask(toy()), run_dir, RunManifest.load(run_dir))
    assert path == run_dir / "report" / "report.html"
    return path.read_text()


def test_the_page_needs_nothing_beside_itself(run_dir: Path) -> None:
    text = report(run_dir)
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert "http" not in text
    pictures = sorted(p.name for p in (run_dir / "report").glob("*.png"))
    assert pictures == ["loss_curve.png", "schedule_curve.png", "validation_curve.png"]
    assert text.count("data:image/png;base64,") == len(pictures)


def test_it_tells_scores_run_and_task(run_dir: Path) -> None:
    text = report(run_dir)
    said = facts(run_dir)
    for words in (
        f"{said['best']['value']:.4f}",
        said["weights_sha256"],
        "finished at step 20 of 20",
        "30 rows",
        "was never opened",
    ):
        assert words in text


def test_the_test_split_appears_only_once_it_was_opened(run_dir: Path) -> None:
    assert "<td>test</td>" not in report(run_dir)
    manifest = RunManifest.load(run_dir)
    evaluate_run(ToyTask(toy()), run_dir, manifest, split="test", which="best")
    text = report(run_dir)
    assert "<td>test</td>" in text
    assert "opened 1 time(s)" in text


def test_the_model_card_is_filled_and_the_form_stays(project: Path, run_dir: Path) -> None:
    report(run_dir)
    assert not (run_dir / "report" / "MODEL_CARD.md").exists()
    (project / "MODEL_CARD.md").write_text(FORM)
    report(run_dir)
    card = (run_dir / "report" / "MODEL_CARD.md").read_text()
    assert card.startswith("Mine.")
    assert "fill:" not in card
    assert facts(run_dir)["weights_sha256"] in card
    assert "| validation | best" in card
    assert (project / "MODEL_CARD.md").read_text() == FORM


def test_a_new_report_replaces_the_old_one(run_dir: Path) -> None:
    report(run_dir)
    (run_dir / "report" / "old.png").touch()
    report(run_dir)
    assert not (run_dir / "report" / "old.png").exists()
    assert not (run_dir / ".report.tmp").exists()


def test_the_task_may_look_into_the_best_weights(run_dir: Path) -> None:
    class Inspecting(ReportingTask):
        tuned: Mapping[str, float] | None = None

        def use_validation(self, scores: Mapping[str, float]) -> None:
            self.tuned = scores

        def inspection_sections(
            self, model: Any, rows: Sequence[Row], examples: Dataset, folder: Path
        ) -> list[ReportSection]:
            assert not model.training
            assert not torch.is_grad_enabled()
            assert self.tuned == facts(run_dir)["best"]["scores"]
            best, _ = load_weights(run_dir, "best")
            assert all(torch.equal(value, best[name]) for name, value in model.state_dict().items())
            ids = [int(examples.example(i, None)["example_id"]) for i in range(len(examples))]
            assert [row.example_id for row in rows] == ids
            (folder / "inside.png").write_bytes(b"a picture")
            return [ReportSection(title="Inside", pictures=["inside.png"])]

    path = write_report(Inspecting(toy()), run_dir, RunManifest.load(run_dir))
    titles = re.findall("<h2>(.*?)</h2>", path.read_text())
    assert titles[2:5] == ["Of the task", "Inside", "The run"]
    assert (path.parent / "inside.png").exists()


def test_pictures_may_move(tmp_path: Path) -> None:
    for name in ("still.png", "moving.gif"):
        (tmp_path / name).write_bytes(b"picture")
    section = ReportSection(title="Two", pictures=["still.png", "moving.gif"])
    text = page("title", "", [section], tmp_path)
    assert re.findall(r'alt="(.*?)" src="(.*?),', text) == [
        ("Two: still", "data:image/png;base64"),
        ("Two: moving", "data:image/gif;base64"),
    ]


@pytest.mark.parametrize("name", ["words.txt", "noname"])
def test_what_is_no_picture_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=f"{name} is no picture by its name: let it end with .png"):
        page("title", "", [ReportSection(title="x", pictures=[name])], tmp_path)


def test_whatever_stands_in_a_section_is_text(tmp_path: Path) -> None:
    nasty = "<script>&"
    table = ([nasty], [[nasty]])
    section = ReportSection(title=nasty, text=nasty, table=table)
    text = page(nasty, nasty, [section], tmp_path)
    assert "<script>" not in text
    assert text.count("&lt;script&gt;&amp;") == 7
