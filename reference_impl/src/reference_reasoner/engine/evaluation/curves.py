"""Learning curves from a run's records."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..tracking.sinks import Record
from .figures import ACCENT, SECOND, THIRD, new_figure, save_figure


def learning_curves(records: Sequence[Record], metric: str, folder: Path) -> list[str]:
    """Draw loss, validation score and learning rate over steps; return the PNGs' names."""
    training = [r for r in records if r["kind"] == "train"]
    evaluations = [r for r in records if r["kind"] == "evaluation"]
    return [
        _loss_curve(training, folder),
        _score_curve(evaluations, metric, folder),
        _rate_curve(training, folder),
    ]


def _loss_curve(training: Sequence[Record], folder: Path) -> str:
    figure, axes = new_figure(6.4, 3.6)
    terms = sorted({name for r in training for name in r if name.startswith("loss/")})
    drawn = [("loss", ACCENT)] + ([(t, None) for t in terms] if len(terms) > 1 else [])
    for name, colour in drawn:
        _plot(axes, training, name, name, colour)
    if any((r.get("loss") or 0) > 0 for r in training):
        axes.set_yscale("log")
    axes.set_ylabel("training loss")
    return _finish(figure, axes, folder, "loss_curve.png")


def _score_curve(evaluations: Sequence[Record], metric: str, folder: Path) -> str:
    figure, axes = new_figure(6.4, 3.6)
    for kind, label, colour in (("raw", "weights", SECOND), ("ema", "averaged (EMA)", THIRD)):
        name = f"{kind}/{metric}"
        if any(name in r for r in evaluations):
            _plot(axes, evaluations, name, label, colour, marker=".")
    axes.set_ylabel(f"validation {metric}")
    return _finish(figure, axes, folder, "validation_curve.png")


def _rate_curve(training: Sequence[Record], folder: Path) -> str:
    figure, axes = new_figure(6.4, 2.6)
    _plot(axes, training, "learning_rate", "learning rate", ACCENT)
    _plot(axes, training, "gradient_norm", "gradient norm", SECOND, alpha=0.6)
    axes.set_yscale("symlog", linthresh=1e-6)
    axes.set_ylabel("learning rate, norm")
    return _finish(figure, axes, folder, "schedule_curve.png")


def _plot(
    axes: Any, records: Sequence[Record], name: str, label: str, colour: str | None, **style: Any
) -> None:
    points = [(r["step"], r[name]) for r in records if r.get(name) is not None]
    axes.plot([p[0] for p in points], [p[1] for p in points], label=label, color=colour, **style)


def _finish(figure: Any, axes: Any, folder: Path, name: str) -> str:
    axes.set_xlabel("step")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    save_figure(figure, folder / name)
    return name
