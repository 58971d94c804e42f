"""The gate and the memory's surprise in the report, by layer and supervision step."""

from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

from ...engine.data.dataset import Dataset
from ...engine.evaluation.figures import PALETTE, new_figure, save_figure
from ...engine.training.task import ReportSection
from ..models.full_model import RecursiveReasoner
from .memory_use import (
    ANSWER,
    FIRST,
    LATE_SHARE,
    LATENT,
    Measured,
    Moments,
    memory_blocks,
    memory_use,
)

EXAMPLES = 64
"""So many of the validation split are looked at, the first ones."""
MARKERS = "os^Dv"
PANELS = {
    FIRST: "first update of the latent",
    LATENT: "last update of the latent",
    ANSWER: "update of the answer",
}
"""In the order in which the network is applied."""
NO_MEMORY = (
    "This model has no memory beside its attention (model.backbone.use_memory is False), hence no "
    "gate and no surprise."
)
PACKED = "Its examples are packed documents; gate and surprise are measured on whole ones only."
MULTIPLIES = (
    "The gate multiplies (model.backbone.gate is 'multiply'): the memory scales what attention "
    "found, and neither has a share."
)


class _Line(NamedTuple):
    """One quantity in a picture."""

    label: str
    """What sets it apart from the other quantity; empty if it is the only one."""
    measured: Measured


def memory_sections(
    model: RecursiveReasoner, examples: Dataset, folder: Path, *, batch_size: int
) -> list[ReportSection]:
    """Report sections of the memory: gate and surprise by layer; a sentence where none is.

    `model` is in eval mode and on its device.
    """
    title = "Gate and surprise by layer"
    if not memory_blocks(model):
        return [ReportSection(title=title, text=NO_MEMORY)]
    if "documents" in examples.example(0, None):
        return [ReportSection(title=title, text=PACKED)]
    count = min(EXAMPLES, len(examples))
    use = memory_use(model, examples, count=count, batch_size=batch_size)
    about = _about(model, count)
    causal, once = model.config.backbone.causal, model.backbone.writes_once
    where = _about_once(count) if once else about
    surprise = _surprise_section(use.surprise, use.later_surprise, causal, where, folder)
    if not use.shares:
        return [ReportSection(title="Gate by layer", text=MULTIPLIES), surprise]
    return [_gate_section(use.shares, about, folder), surprise]


def _about(model: RecursiveReasoner, examples: int) -> str:
    recursion = model.config.recursion
    return (
        f"{_over(examples)} Of the "
        f"{recursion.applications} times that a supervision step applies the network, the last two "
        "are shown: the last update of the latent and the update of the answer."
    )


def _about_once(examples: int) -> str:
    return (
        f"{_over(examples)} The first application in a latent recursion alone writes "
        "(model.backbone.memory.write is 'first_pass'); that of the last recursion is shown."
    )


def _over(examples: int) -> str:
    return (
        f"Over the tokens and heads of the first {examples} validation examples at full depth, "
        "persistent tokens left out."
    )


def _gate_section(shares: Measured, about: str, folder: Path) -> ReportSection:
    lines = [_Line("", shares)]
    _draw(lines, "attention's share g", folder / "gate.png", spread=True)
    return ReportSection(
        title="Gate by layer",
        text="A block passes on g times what attention found and 1 - g times what the memory "
        f"recalled, both normalised. {about} Bars are standard deviations, cut at 0 and 1.",
        pictures=["gate.png"],
        table=(["layer", "update of", "mean share", "std"], _table(lines, spread=True)),
    )


def _surprise_section(
    first: Measured, second: Measured, causal: bool, about: str, folder: Path
) -> ReportSection:
    late = f"last 1/{LATE_SHARE} of tokens"
    names = ("all tokens", late) if causal else ("before the write", "after the write")
    lines = [_Line(name, measured) for name, measured in zip(names, (first, second), strict=True)]
    _draw(lines, "surprise |M(k) - v| / |v|", folder / "surprise.png", spread=False)
    how = (
        "each token's own, just before it is written"
        if causal
        else "before all tokens are written, with the learned initial memory, and after that"
    )
    return ReportSection(
        title="Surprise by layer",
        text="How far what the memory M recalls for a key k is from the value v that it is shown, "
        f"{how}: 0 is known by heart, 1 (dotted) is no better than recalling nothing. {about}",
        pictures=["surprise.png"],
        table=(["layer", "update of", *names], _table(lines, spread=False)),
    )


def _table(lines: Sequence[_Line], *, spread: bool) -> list[list[str]]:
    """Table of gate or surprise: a row for each layer and update, over all supervision steps."""
    table = []
    layers = sorted({place.layer for place in lines[0].measured})
    updates = _updates(lines)
    for layer, update in ((layer, update) for layer in layers for update in updates):
        cells = []
        for line in lines:
            total = _total(line.measured, update, layer)
            cells += [f"{total.mean:.4f}", *([f"{total.std:.4f}"] if spread else [])]
        table.append([str(layer), update, *cells])
    return table


def _updates(lines: Sequence[_Line]) -> list[str]:
    """Those that were measured, in order."""
    found = {place.update for place in lines[0].measured}
    return [update for update in PANELS if update in found]


def _total(measured: Measured, update: str, layer: int) -> Moments:
    first, *others = _along(measured, update, layer)
    for other in others:
        first = first + other
    return first


def _along(measured: Measured, update: str, layer: int) -> list[Moments]:
    """Of each supervision step in order."""
    chosen = sorted(place for place in measured if place[:2] == (update, layer))
    return [measured[place] for place in chosen]


def _draw(lines: Sequence[_Line], what: str, path: Path, *, spread: bool) -> None:
    """Draw the memory's section: a panel for each update, a colour for each layer."""
    updates = _updates(lines)
    figure, left = new_figure(9.2, 4.0)
    grid = figure.add_gridspec(1, len(updates))
    left.set_subplotspec(grid[0])
    others = (figure.add_subplot(grid[n], sharey=left) for n in range(1, len(updates)))
    panels = [left, *others]
    steps = max(place.step for place in lines[0].measured)
    for axes, update in zip(panels, updates, strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        _draw_update(axes, lines, update, spread)
        axes.set_title(PANELS[update], fontsize=10)
        axes.set_xlabel("supervision step")
        axes.set_xlim(0.5, steps + 0.5)
        axes.set_xticks(range(1, steps + 1, max(1, steps // 5)))
        axes.grid(alpha=0.25)
        if not spread:
            axes.axhline(1, color="0.5", linewidth=1, linestyle=":", zorder=0)
    left.set_ylabel(what)
    left.set_ylim(*(-0.02, 1.02) if spread else (0, 1.08 * _highest(lines)))
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", frameon=False)
    save_figure(figure, path)


def _highest(lines: Sequence[_Line]) -> float:
    """Of all means, and of 1."""
    return max(1.0, *(each.mean for line in lines for each in line.measured.values()))


def _draw_update(axes: Any, lines: Sequence[_Line], update: str, spread: bool) -> None:
    layers = sorted({place.layer for place in lines[0].measured})
    looks = islice(zip(cycle(PALETTE), cycle(MARKERS), strict=False), len(layers))
    for layer, (colour, marker) in zip(layers, looks, strict=True):
        for line, stroke in zip(lines, ("-", "--"), strict=False):
            found = _along(line.measured, update, layer)
            apart = 0.12 * (layer - (len(layers) + 1) / 2)  # so that bars do not hide each other
            axes.errorbar(
                [step + apart for step in range(1, len(found) + 1)],
                [each.mean for each in found],
                yerr=_bars(found) if spread else None,
                label=f"layer {layer}" + (f", {line.label}" if line.label else ""),
                color=colour,
                linestyle=stroke,
                marker=marker,
                markerfacecolor=colour if stroke == "-" else "white",
                markersize=5,
                elinewidth=0.7,
                capsize=2,
            )


def _bars(shares: Sequence[Moments]) -> list[list[float]]:
    """Error bars of gate and surprise: a standard deviation down and up, shares within [0, 1]."""
    down = [min(each.std, each.mean) for each in shares]
    return [down, [min(each.std, 1 - each.mean) for each in shares]]
