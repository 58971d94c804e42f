"""Profiles as one PNG; matplotlib is imported when one is drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .tables import title

_ACCENT = "#0072B2"
_SECOND = "#D55E00"
_MOST_BARS = 12
NO_MATPLOTLIB = "no picture was made: matplotlib is not installed"


def draw_profile(result: Mapping[str, Any], path: Path) -> str:
    """Draw parameters by module, where a step's time goes, and throughput over batch sizes.

    Returns where the picture is, or that none was made. The folder of `path` is made.
    """
    figure, panels = _figure(3)
    if figure is None:
        return NO_MATPLOTLIB
    measured = result["measured"]
    _bars(
        panels[0],
        _largest(result["exact"]["parameters_by_module"]),
        "parameters",
        "parameters by module",
    )
    split = {
        phase: measured[key]
        for phase, key in {
            "data loading": "data_loading_mean_ms",
            "other": "training_other_mean_ms",
            "forward": "training_forward_mean_ms",
            "backward": "training_backward_mean_ms",
            "optimizer": "training_optimizer_mean_ms",
        }.items()
        if key in measured
    }
    _bars(panels[1], split, "ms, mean", "parts of a training step")
    rows = measured["throughput_by_batch"]
    sizes = [row["batch_examples"] for row in rows]
    rates = [row["throughput_examples_per_s"] for row in rows]
    _line(panels[2], sizes, rates, ("examples a batch", "examples/s", "throughput of inference"))
    panels[2].set_xscale("log", base=2)
    panels[2].set_xticks(sizes, [str(size) for size in sizes])
    return _save(figure, path, title(result))


def draw_repetitions(repetitions: Sequence[Mapping[str, Any]], path: Path, text: str) -> str:
    """Draw latency and peak memory of each repetition; returns as `draw_profile` does."""
    figure, panels = _figure(2)
    if figure is None:
        return NO_MATPLOTLIB
    lines: dict[str, tuple[list[int], list[float]]] = {}
    for count, each in enumerate(repetitions, start=1):
        for row in each["timings"]:
            line = lines.setdefault(f"{row['workload']}, {row['mode']}", ([], []))
            line[0].append(count)
            line[1].append(row["latency_batch1_p50_ms"])
    for label, (counts, medians) in lines.items():
        panels[0].plot(counts, medians, marker="o", label=label)
    _labelled(panels[0], ("repetition", "ms, p50", "latency at batch 1"))
    panels[0].legend(fontsize=7)
    peaks = [each["training_step_peak_allocated_mib"] for each in repetitions]
    labels = ("repetition", "MiB allocated", "peak memory of a training step")
    _line(panels[1], range(1, len(peaks) + 1), peaks, labels)
    return _save(figure, path, text)


def _figure(count: int) -> tuple[Any, Any]:
    """A figure of `count` plots beside each other; (None, None) without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None, None
    figure = Figure(figsize=(4.5 * count, 3.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, count)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _largest(counts: Mapping[str, int]) -> dict[str, int]:
    names = sorted(counts, key=counts.__getitem__, reverse=True)
    return {name: counts[name] for name in names[:_MOST_BARS]}


def _bars(panel: Any, values: Mapping[str, float], unit: str, text: str) -> None:
    panel.barh(list(values), list(values.values()), color=_ACCENT)
    panel.invert_yaxis()
    panel.set_xlabel(unit)
    panel.set_title(text, fontsize=10)


def _line(panel: Any, x: Sequence[float], y: Sequence[float], labels: tuple[str, str, str]) -> None:
    panel.plot(x, y, marker="o", color=_SECOND)
    _labelled(panel, labels)


def _labelled(panel: Any, labels: tuple[str, str, str]) -> None:
    panel.set_xlabel(labels[0])
    panel.set_ylabel(labels[1])
    panel.set_title(labels[2], fontsize=10)
    panel.set_ylim(bottom=0)


def _save(figure: Any, path: Path, text: str) -> str:
    figure.suptitle(text, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return str(path)
