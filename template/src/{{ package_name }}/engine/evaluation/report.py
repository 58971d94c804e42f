"""`report`: everything worth seeing of a run on one page."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..data.test_lock import ledger_path, read_ledger
from ..project import project_root
from ..tracking.manifest import RunManifest
from ..tracking.sinks import read_records
from ..training.checkpoint import load_weights
from ..training.task import ReportSection, Row, Task
from .curves import learning_curves
from .evaluate import evaluate_run, trained_model, validation_scores
from .html import page
from .model_card import filled_card
from .predictions import read_rows
from .stored_predictions import find_stored, results, split_name

Result = Mapping[str, Any]


def write_report(task: Task[Any], run_dir: Path, manifest: RunManifest) -> Path:
    """Write `<run>/report/` (report.html, its pictures, MODEL_CARD.md) and return the page's path.

    The validation split is scored first, then the task asks the best weights what it wants to
    know. Of the test split the report shows what `evaluate` stored, and opens nothing. An older
    report is replaced once the new one is whole.
    """
    validation = evaluate_run(task, run_dir, manifest, split="validation", which="best")
    rows = _rows_of(run_dir, validation)
    shown = _current(results(run_dir), validation)
    folder = run_dir / ".report.tmp"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    sections = _sections(task, run_dir, manifest, rows, shown, folder)
    facts = manifest.data
    title = f"{facts['task']}: run {facts['name']}"
    subtitle = f"{facts['status']} at step {facts['step']} of {facts['steps']}"
    (folder / "report.html").write_text(page(title, subtitle, sections, folder), encoding="utf-8")
    form = project_root() / "MODEL_CARD.md"
    if form.is_file():
        card = filled_card(form.read_text(encoding="utf-8"), facts, shown)
        (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    shutil.rmtree(run_dir / "report", ignore_errors=True)
    return folder.rename(run_dir / "report") / "report.html"


def _rows_of(run_dir: Path, result: Result) -> list[Row]:
    path = find_stored([run_dir], result)
    assert path is not None, "evaluate_run has just stored it"
    return read_rows(path)


def _current(found: Sequence[Result], validation: Result) -> list[Result]:
    """The results on this data and on files; validation first, older ones of a run left out."""
    data = validation["data_fingerprint"]
    same = [r for r in found if r["split"] == "file" or r["data_fingerprint"] == data]
    last = {
        (split_name(r), r["data_fingerprint"], r["checkpoint"]): r
        for r in sorted(same, key=lambda r: r["step"])
    }
    order = {"validation": 0, "test": 1, "file": 2}
    return sorted(last.values(), key=lambda r: (order[r["split"]], split_name(r), r["checkpoint"]))


def _sections(
    task: Task[Any],
    run_dir: Path,
    manifest: RunManifest,
    rows: Sequence[Row],
    shown: Sequence[Result],
    folder: Path,
) -> list[ReportSection]:
    records = read_records(run_dir / "metrics.jsonl")
    curves = ReportSection(
        title="Learning curves", pictures=learning_curves(records, task.primary_metric, folder)
    )
    return [
        _score_section(shown),
        curves,
        *task.report_sections(rows, folder),
        *_inspection(task, run_dir, manifest, rows, folder),
        _manifest_section(manifest),
        _openings_section(manifest.data["data_fingerprint"]),
    ]


def _inspection(
    task: Task[Any], run_dir: Path, manifest: RunManifest, rows: Sequence[Row], folder: Path
) -> list[ReportSection]:
    """What the task asks of the best weights, with what was tuned for them."""
    tensors, _ = load_weights(run_dir, "best")
    task.use_validation(validation_scores(manifest, "best"))
    model, _ = trained_model(task, tensors)
    with torch.no_grad():
        return task.inspection_sections(model, rows, task.datasets().validation, folder)


def _score_section(shown: Sequence[Result]) -> ReportSection:
    table = [
        [
            split_name(result),
            f"{result['checkpoint']} (step {result['step']})",
            name,
            f"{score['value']:.4f}",
            f"{score['low']:.4f} to {score['high']:.4f}",
        ]
        for result in shown
        for name, score in result["scores"].items()
    ]
    return ReportSection(
        title="Scores",
        text="Intervals are 95 % percentile bootstrap intervals over the split's examples; they "
        "do not cover the choice of the seed.",
        table=(["split", "weights", "score", "value", "95 % interval"], table),
    )


def _manifest_section(manifest: RunManifest) -> ReportSection:
    data = manifest.data
    environment = data["environment"]
    git = environment["git"] or {}
    facts = {
        "task and preset": f"{data['task']}, {data['preset']}",
        "command": " ".join(data["argv"]),
        "seed": data["seed"],
        "parameters": f"{data['parameters']:,}",
        "device, threads": f"{environment['gpu'] or data['device']}, {data['threads']}",
        "calls of train": len(data["sessions"]),
        "stopped because of": data["stop_reason"],
        "data fingerprint": data["data_fingerprint"],
        "weights sha256": data["weights_sha256"],
        "state sha256": data["state_sha256"],
        "commit": git.get("commit"),
        "uncommitted changes": "yes" if git.get("dirty") else git and "no",
        "template version": environment["template"],
        "Python, torch": f"{environment['python']}, {environment['torch']}",
        "created": data["created_at"],
    }
    table = [[name, "-" if value is None else str(value)] for name, value in facts.items()]
    return ReportSection(title="The run", table=(["fact", "value"], table))


def _openings_section(fingerprint: str) -> ReportSection:
    openings = [o for o in read_ledger(ledger_path()) if o["data_fingerprint"] == fingerprint]
    if not openings:
        return ReportSection(
            title="Test openings", text="The test split of this data was never opened."
        )
    table = [
        [o["time"], o["run"], o["weights_sha256"][:12], o.get("reason") or "-"] for o in openings
    ]
    return ReportSection(
        title="Test openings",
        text=f"The test split of this data was opened {len(openings)} time(s).",
        table=(["time", "run", "weights", "reason"], table),
    )
