"""The project's MODEL_CARD.md, filled with what a run measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from .stored_predictions import split_name


def filled_card(
    form: str, manifest: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> str:
    """The form with each `<!-- fill: NAME -->` replaced; what a person wrote around it stays.

    NAME is `run`, `model`, `data`, `scores` or `environment`.
    """
    values = {
        "run": _run(manifest),
        "model": f"{manifest['parameters']:,} parameters",
        "data": f"sha256 `{manifest['data_fingerprint']}`",
        "scores": _scores(results),
        "environment": _environment(manifest["environment"]),
    }
    for name, value in values.items():
        form = form.replace(f"<!-- fill: {name} -->", value)
    return form


def _run(manifest: Mapping[str, Any]) -> str:
    git = manifest["environment"].get("git") or {}
    commit = git.get("commit") or "unknown (the project is not a git repository)"
    dirty = " with uncommitted changes" if git.get("dirty") else ""
    return (
        f"`{manifest['name']}`, task `{manifest['task']}`, preset `{manifest['preset']}`, "
        f"{manifest['step']} of {manifest['steps']} steps, {manifest['status']}; "
        f"commit {commit}{dirty}; weights sha256 `{manifest['weights_sha256']}`"
    )


def _scores(results: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| split | checkpoint | score | value | 95 % interval |", "|---|---|---|---|---|"]
    for result in results:
        for name, score in result["scores"].items():
            lines.append(
                f"| {split_name(result)} | {result['checkpoint']} (step {result['step']}) | "
                f"{name} | {score['value']:.4f} | {score['low']:.4f} to {score['high']:.4f} |"
            )
    return "\n".join(lines)


def _environment(environment: Mapping[str, Any]) -> str:
    device = environment["gpu"] or f"CPU ({environment['cpu_capability']})"
    return f"Python {environment['python']}, torch {environment['torch']}, {device}"
