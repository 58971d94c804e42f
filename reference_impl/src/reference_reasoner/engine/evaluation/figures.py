"""Figures that need no display and share no state, and the learning curves of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..tracking.sinks import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACCENT = "#0072B2"
"""Blue and, below, vermilion of Okabe and Ito's palette, which colour-blind people tell apart."""
SECOND = "#D55E00"
THIRD = "#009E73"
PALETTE = (ACCENT, SECOND, THIRD, "#CC79A7", "#E69F00", "#56B4E9")
"""For more lines in one plot; give each a marker, too."""


def new_figure(width_inches: float, height_inches: float) -> tuple["Figure", Any]:
    """Make a figure of one plot; returns the figure and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # not before one is drawn
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as a PNG; its folder is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def learning_curves(records: Sequence[Record], metric: str, folder: Path) -> list[str]:
    """Draw the figures of loss, validation score and learning rate over steps; the PNGs' names."""
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
    for name in ["loss", *(terms if len(terms) > 1 else [])]:
        _plot(axes, training, name, name, ACCENT if name == "loss" else None)
    if any((r.get("loss") or 0) > 0 for r in training):
        axes.set_yscale("log")
    return _finish(figure, axes, "training loss", folder / "loss_curve.png")


def _score_curve(evaluations: Sequence[Record], metric: str, folder: Path) -> str:
    figure, axes = new_figure(6.4, 3.6)
    for kind, label, colour in (("raw", "weights", SECOND), ("ema", "averaged (EMA)", THIRD)):
        name = f"{kind}/{metric}"
        if any(name in r for r in evaluations):
            _plot(axes, evaluations, name, label, colour, marker=".")
    return _finish(figure, axes, f"validation {metric}", folder / "validation_curve.png")


def _rate_curve(training: Sequence[Record], folder: Path) -> str:
    figure, axes = new_figure(6.4, 2.6)
    _plot(axes, training, "learning_rate", "learning rate", ACCENT)
    _plot(axes, training, "gradient_norm", "gradient norm", SECOND, alpha=0.6)
    axes.set_yscale("symlog", linthresh=1e-6)
    return _finish(figure, axes, "learning rate, norm", folder / "schedule_curve.png")


def _plot(
    axes: Any, records: Sequence[Record], name: str, label: str, colour: str | None, **style: Any
) -> None:
    points = [(r["step"], r[name]) for r in records if r.get(name) is not None]
    axes.plot([p[0] for p in points], [p[1] for p in points], label=label, color=colour, **style)


def _finish(figure: "Figure", axes: Any, ylabel: str, path: Path) -> str:
    axes.set(xlabel="step", ylabel=ylabel)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    save_figure(figure, path)
    return path.name
