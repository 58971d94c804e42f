"""What a trial has left on the disk: its result on a split, its predictions, its curve."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.predictions import read_rows
from ..evaluation.stored_predictions import find_stored, results
from ..tracking.manifest import RunManifest
from ..tracking.sinks import read_records
from ..training.task import Row
from .plan import Trial


def result_of(trial: Trial, split: str) -> dict[str, Any] | None:
    """What `evaluate` stored of the best weights on `split`; None where it has not.

    A run that went on after it was scored has no result until it is scored again.
    """
    if not (trial.run_dir / "run.json").exists():
        return None
    best = RunManifest.load(trial.run_dir).data["best"]
    for result in results(trial.run_dir):
        best_ones = result["checkpoint"] == "best" and not result.get("steps")
        plain = result["split"] == split and best_ones
        if plain and best is not None and result["step"] == best["step"]:
            return result
    return None


def is_finished(trial: Trial) -> bool:
    """Whether its training has ended as planned."""
    run_json = trial.run_dir / "run.json"
    return run_json.exists() and RunManifest.load(trial.run_dir).data["status"] == "finished"


def rows_of(trial: Trial, split: str) -> list[Row] | None:
    """The predictions beside that result; None where there are none, or they are damaged."""
    result = result_of(trial, split)
    path = None if result is None else find_stored([trial.run_dir], result)
    return None if path is None else read_rows(path)


def run_facts(trial: Trial, split: str, failure: str | None, metric: str) -> dict[str, Any]:
    """What study.json says of a run: its command, what it took, every score, its curve."""
    facts: dict[str, Any] = {
        "run": trial.run_dir.name,
        "variation": trial.variation,
        "seed": trial.seed,
        "command": list(trial.train),
        "failure": failure,
    }
    result = result_of(trial, split)
    if result is None:
        return facts
    manifest = RunManifest.load(trial.run_dir).data
    records = _with_all_seconds(read_records(trial.run_dir / "metrics.jsonl"))
    return {
        **facts,
        **{name: manifest[name] for name in ("step", "parameters", "device", "threads")},
        "wall_s": records[-1]["wall_s"],
        "weights_sha256": result["weights_sha256"],
        "examples": result["examples"],
        "scores": result["scores"],
        "curve": _curve(records, metric),
    }


def _with_all_seconds(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """With `wall_s` over all calls of `train`: each of them counts from 0."""
    before = last = 0.0
    told = []
    for record in records:
        if record["wall_s"] < last:
            before += last
        last = record["wall_s"]
        told.append({**record, "wall_s": before + last})
    return told


def _curve(records: Sequence[Mapping[str, Any]], metric: str) -> list[dict[str, Any]]:
    """The metric on validation as training went on, of raw and, if there are any, EMA weights."""
    names = ("step", "wall_s", f"raw/{metric}", f"ema/{metric}")
    return [
        {name: record[name] for name in names if name in record}
        for record in records
        if record["kind"] == "evaluation"
    ]
