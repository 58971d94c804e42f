"""Figures that need no display and share no state."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACCENT = "#0072B2"
"""Blue and, below, vermilion of Okabe and Ito's palette, which colour-blind people tell apart."""
SECOND = "#D55E00"
THIRD = "#009E73"
PALETTE = (ACCENT, SECOND, THIRD, "#CC79A7", "#E69F00", "#56B4E9")
"""For more lines in one plot; give each a marker, too."""


def new_figure(width_inches: float, height_inches: float) -> tuple["Figure", Any]:
    """A figure of one plot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # not before one is drawn
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a PNG; its folder is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
