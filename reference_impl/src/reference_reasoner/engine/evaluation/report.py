"""`report`: everything worth seeing of a run on one HTML page, and its filled MODEL_CARD.md."""

import base64
import html
import mimetypes
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
from .figures import learning_curves
from .predictions import find_stored, read_rows, results, split_name, validation_scores
from .scoring import evaluate_run, trained_model

Result = Mapping[str, Any]
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; max-width: 60rem;
       margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #d0d7de; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #e4e8ec; text-align: left;
         overflow-wrap: anywhere; }
th { background: #f6f8fa; } img { max-width: 100%; height: auto; } .quiet { color: #57606a; }
"""


def write_report(task: Task[Any], run_dir: Path, manifest: RunManifest) -> Path:
    """Write `<run>/report/` (report.html, its pictures, MODEL_CARD.md) and return the page's path.

    The validation split is scored first, then the task asks the best weights what it wants to
    know. Of the test split the report shows what `evaluate` stored, and opens nothing. An older
    report is replaced once the new one is whole.
    """
    validation = evaluate_run(task, run_dir, manifest, split="validation", which="best")
    stored = find_stored([run_dir], validation)
    assert stored is not None, "evaluate_run has just stored it"
    rows = read_rows(stored)
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


def _current(found: Sequence[Result], validation: Result) -> list[Result]:
    """The results that the report shows: the newest on this data and on files, in order."""
    data = validation["data_fingerprint"]
    same = [r for r in found if r["split"] == "file" or r["data_fingerprint"] == data]
    last = {
        (split_name(r), r["data_fingerprint"], r["checkpoint"]): r
        for r in sorted(same, key=lambda r: r["step"])
    }
    order = ("validation", "test", "file").index
    return sorted(last.values(), key=lambda r: (order(r["split"]), split_name(r), r["checkpoint"]))


def _sections(
    task: Task[Any],
    run_dir: Path,
    manifest: RunManifest,
    rows: Sequence[Row],
    shown: Sequence[Result],
    folder: Path,
) -> list[ReportSection]:
    records = read_records(run_dir / "metrics.jsonl")
    curves = learning_curves(records, task.primary_metric, folder)
    return [
        _score_section(shown),
        ReportSection(title="Learning curves", pictures=curves),
        *task.report_sections(rows, folder),
        *_inspection(task, run_dir, manifest, rows, folder),
        _manifest_section(manifest),
        _openings_section(manifest.data["data_fingerprint"]),
    ]


def _inspection(
    task: Task[Any], run_dir: Path, manifest: RunManifest, rows: Sequence[Row], folder: Path
) -> list[ReportSection]:
    """The report's sections that the task makes by asking the best weights, as they were tuned."""
    tensors, _ = load_weights(run_dir, "best")
    task.use_validation(validation_scores(manifest, "best"))
    model, _ = trained_model(task, tensors)
    with torch.no_grad():
        return task.inspection_sections(model, rows, task.datasets().validation, folder)


def _score_rows(shown: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of the report's table of scores."""
    rows = [
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
    return ["split", "weights", "score", "value", "95 % interval"], rows


def _score_section(shown: Sequence[Result]) -> ReportSection:
    return ReportSection(
        title="Scores",
        text="Intervals are 95 % percentile bootstrap intervals over the split's examples; they "
        "do not cover the choice of the seed.",
        table=_score_rows(shown),
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
    table = [
        [o["time"], o["run"], o["weights_sha256"][:12], o.get("reason") or "-"] for o in openings
    ]
    times = f"opened {len(openings)} time(s)" if openings else "never opened"
    return ReportSection(
        title="Test openings",
        text=f"The test split of this data was {times}.",
        table=(["time", "run", "weights", "reason"], table) if openings else None,
    )


def page(title: str, subtitle: str, sections: Sequence[ReportSection], folder: Path) -> str:
    """The report as one HTML page; its pictures are read from `folder` and put inside.

    Raises ValueError for a picture whose name does not end like one.
    """
    title, subtitle = html.escape(title), html.escape(subtitle)
    body = "\n".join(_section_html(section, folder) for section in sections)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{_STYLE}</style></head><body>
<h1>{title}</h1><p class="quiet">{subtitle}</p>
{body}
</body></html>
"""


def _section_html(section: ReportSection, folder: Path) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{html.escape(section.text)}</p>")
    if section.table is not None:
        parts.append(_table(*section.table))
    parts += [_picture(section.title, folder / name) for name in section.pictures]
    return "\n".join(parts)


def _picture(title: str, path: Path) -> str:
    kind, _ = mimetypes.guess_type(path.name)
    if kind is None or not kind.startswith("image/"):
        raise ValueError(f"{path.name} is no picture by its name: let it end with .png or .gif")
    data = base64.b64encode(path.read_bytes()).decode()
    alt = html.escape(f"{title}: {path.stem.replace('_', ' ')}")
    return f'<p><img alt="{alt}" src="data:{kind};base64,{data}"></p>'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def filled_card(form: str, manifest: Mapping[str, Any], shown: Sequence[Result]) -> str:
    """The project's MODEL_CARD.md with each `<!-- fill: NAME -->` replaced by what a run measured.

    What a person wrote around it stays. NAME is `run`, `model`, `data`, `scores` or `environment`.
    """
    environment = manifest["environment"]
    device = environment["gpu"] or f"CPU ({environment['cpu_capability']})"
    scores = [" | ".join(row) for row in _score_rows(shown)[1]]
    head = ["| split | checkpoint | score | value | 95 % interval |", "|---|---|---|---|---|"]
    git = environment.get("git") or {}
    commit = git.get("commit") or "unknown (the project is not a git repository)"
    dirty = " with uncommitted changes" if git.get("dirty") else ""
    values = {
        "run": f"`{manifest['name']}`, task `{manifest['task']}`, preset `{manifest['preset']}`, "
        f"{manifest['step']} of {manifest['steps']} steps, {manifest['status']}; "
        f"commit {commit}{dirty}; weights sha256 `{manifest['weights_sha256']}`",
        "model": f"{manifest['parameters']:,} parameters",
        "data": f"sha256 `{manifest['data_fingerprint']}`",
        "scores": "\n".join([*head, *(f"| {cells} |" for cells in scores)]),
        "environment": f"Python {environment['python']}, torch {environment['torch']}, {device}",
    }
    for name, value in values.items():
        form = form.replace(f"<!-- fill: {name} -->", value)
    return form
