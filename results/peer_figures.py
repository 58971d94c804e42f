"""The pictures of what runs side by side, from results/peers/*.json."""

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter, LogLocator

from .peer_tables import in_turns, ratios
from .stored import load

BLUE, ORANGE, GREY = "#1f6fb2", "#d9822b", "0.6"
MIB = 2**20


def pictures() -> dict[str, Any]:
    """{file name: figure}."""
    each = {f"{script}.png": turns(load(f"peers/{script}.json")) for script in in_turns()}
    return {
        "peers.png": compared(), "memory_growth.png": growth(), "decode.png": decode(), **each
    }  # fmt: skip


def turns(found: Mapping[str, Any]) -> Any:
    """Milliseconds of each way of doing the same work: the median, and a dot a repetition."""
    panels = list(_timed(found))
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    height = 0.9 + 0.34 * max(len(seconds) for _, seconds in panels)
    size = (5.5 * columns, height * rows)
    figure, axes = pyplot.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, (what, seconds) in zip(axes.flat, panels, strict=False):
        for place, (way, each) in enumerate(reversed(seconds.items())):
            colour = BLUE if way.startswith(("ours", "halting", "exact")) else GREY
            milliseconds = [1e3 * value for value in each]
            ax.barh(place, statistics.median(milliseconds), color=colour, height=0.6)
            ax.plot(milliseconds, [place] * len(each), ".", color="0.2", markersize=4)
        ax.set_yticks(range(len(seconds)), list(reversed(seconds)))
        ax.set_title(what, fontsize=9)
        ax.set(xlabel="ms", xlim=0)
        ax.grid(alpha=0.3, axis="x")
    return figure


def _timed(found: Any, name: str = "") -> Iterator[tuple[str, dict[str, list[float]]]]:
    """(what was done, {way: seconds of each repetition}), wherever it stands."""
    for key, value in found.items() if isinstance(found, dict) else ():
        if key == "seconds" and isinstance(value, dict):
            yield name, value
        else:
            plain = key in ("rows", "kinds", "inference", "training_step")
            yield from _timed(value, name if plain else f"{name}, {key}".removeprefix(", "))


def compared() -> Any:
    """Each ratio with its extremes, and the least that is required where something is."""
    found = list(ratios())[::-1]
    figure, ax = pyplot.subplots(figsize=(11, 0.6 + 0.42 * len(found)), layout="constrained")
    for place, (_, ratio, least) in enumerate(found):
        colour = GREY if least is None else BLUE if ratio["median"] >= least else ORANGE
        ax.barh(place, ratio["median"], color=colour, height=0.55)
        ax.plot([ratio["lowest"], ratio["highest"]], [place, place], color="0.2", linewidth=1.5)
        if least is not None:
            ax.plot([least, least], [place - 0.4, place + 0.4], color="0.2", linestyle=":")
    ax.set_yticks(range(len(found)), [what for what, _, _ in found])
    ax.axvline(1, color="0.3", linewidth=0.8)
    ax.set(xlabel="times as fast, with extremes; dotted: asked; grey: nothing is asked", xlim=0)
    ax.grid(alpha=0.3, axis="x")
    return figure


def growth() -> Any:
    """Time and peak memory of the memory layers over the length, and what linear would be."""
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
    for (what, layer), colour in zip(
        load("peers/memory_growth.json")["layers"].items(), (BLUE, ORANGE), strict=True
    ):
        tokens = [run["tokens"] for run in layer["runs"]]
        times = [min(run["seconds"]) for run in layer["runs"]]
        peaks = [run["peak_bytes"] / MIB for run in layer["runs"]]
        for ax, values in zip(axes, (times, peaks), strict=True):
            ax.loglog(tokens, values, color=colour, marker="o", label=what)
            linear = [values[0] * count / tokens[0] for count in tokens]
            ax.loglog(tokens, linear, color="0.3", linestyle=":", linewidth=1)
            ax.set_xticks(tokens, [f"{count // 1024} K" for count in tokens])
            ax.minorticks_off()
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes[0].set(xlabel="tokens", ylabel="seconds, forward and backward")
    axes[1].set(xlabel="tokens; dotted: in proportion", ylabel="MiB beyond the start, at most")
    for ax in axes:
        ax.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    return figure


def decode() -> Any:
    """Tokens a second after contexts of different lengths, with extremes."""
    found = load("peers/decode.json")["contexts"]
    tokens = [each["context_tokens"] for each in found]
    figure, ax = pyplot.subplots(figsize=(6.5, 3.2), layout="constrained")
    rates = [each["tokens_per_s"] for each in found]
    below = [each["tokens_per_s"] - each["slowest_tokens_per_s"] for each in found]
    above = [each["fastest_tokens_per_s"] - each["tokens_per_s"] for each in found]
    ax.errorbar(tokens, rates, yerr=[below, above], color=BLUE, marker="o", capsize=4)
    ax.set_xscale("log")
    ax.set_xticks(tokens, [f"{count // 1024} K" for count in tokens])
    ax.minorticks_off()
    ax.set(xlabel="tokens before, with extremes", ylabel="tokens a second")
    ax.set_ylim(0, 1.1 * max(rate + more for rate, more in zip(rates, above, strict=True)))
    ax.grid(alpha=0.3)
    return figure
