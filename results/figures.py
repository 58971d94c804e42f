"""The pictures of docs/results.md, from results/learning/*.json."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from benchmarks.peer_scripts import use_our_package

from . import peer_figures
from .learning_tables import STUDIES, exists
from .peer_figures import BLUE, GREY, ORANGE
from .stored import RESULTS, load, there

DOCS = RESULTS.parent / "docs"
STYLES = {"baseline": (BLUE, "-"), "no_memory": (ORANGE, "--"), "token_mixing": (ORANGE, "-")}
CURVES = (("sudoku", "6 x 6 Sudoku"), ("maze", "9 x 9 mazes"), ("recall", "recall"))


def draw(folder: Path = DOCS) -> list[Path]:
    """Write the pictures; their paths."""
    pictures = {"learning_curves.png": learning_curves(), **peer_figures.pictures()}
    if exists("halting"):
        pictures |= {"halting.png": halting(), "step_by_step.png": step_by_step()}
    if len(gpu_runs()) > 1:
        pictures["gpu_curves.png"] = gpu_curves()
    if exists("ablations") and exists("ema"):
        pictures["ablations.png"] = ablations()
    for name, figure in pictures.items():
        figure.savefig(folder / name, dpi=110, metadata={"Software": None})
        pyplot.close(figure)
    return [folder / name for name in pictures]


def learning_curves() -> Any:
    """Validation accuracy against seconds of training, a line a run."""
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    for (part, title), ax in zip(CURVES, axes, strict=True):
        study = load(f"learning/{part}.json")
        metric = study["comparison"]["metric"]
        for run in study["runs"]:
            style = STYLES.get(run["variation"])
            if style is None:
                continue
            names = [n for n in (f"ema/{metric}", f"raw/{metric}") if n in run["curve"][0]]
            seconds = [point["wall_s"] for point in run["curve"]]
            scores = [point[names[0]] for point in run["curve"]]
            label = run["variation"].replace("_", " ") if run["seed"] == 0 else None
            ax.plot(seconds, scores, color=style[0], linestyle=style[1], marker=".", label=label)
        ax.set_title(title)
        ax.set_xlabel("seconds of training, one thread")
        ax.set_ylim(0, 1.02)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("right on validation")
    for ax in (axes[0], axes[2]):
        ax.legend(frameon=False, loc="center right")
    return figure


def gpu_runs() -> dict[str, Any]:
    """{model: its training on a GPU}, of every piece that is there."""
    pieces = [load(f"gpu/{name}") for name in ("first.json", "second.json") if there(f"gpu/{name}")]
    return {name: run for piece in pieces for name, run in piece["models"].items()}


def gpu_curves() -> Any:
    """Exact answers of 9 x 9 on validation against device-seconds, by the guesses of a puzzle."""
    strata = {"guesses_0": "no guess", "guesses_1_to_4": "1 to 4", "guesses_5_up": "5 and more"}
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.4), layout="constrained", sharey=True)
    colours = {"trm7m_mixing": BLUE, "trm7m": ORANGE, "grid25m": GREY}
    runs = gpu_runs()
    for (stratum, title), ax in zip(strata.items(), axes, strict=True):
        for name, run in runs.items():
            points = [(point["device_seconds"], point[stratum]) for point in run["curve"]]
            at_the_stop = run["validation"]["scores"][f"accuracy_{stratum}"]["value"]
            points.append((run["device_seconds"], at_the_stop))
            ax.plot(*zip(*points, strict=True), color=colours[name], marker=".", label=name)
        ax.set(title=title, xlabel="device-seconds", ylim=(-0.02, 1.02))
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("exact on validation")
    axes[2].legend(frameon=False, loc="center right")
    return figure


def halting() -> Any:
    """Steps taken: how many, against the first right step, against blanks."""
    runs = load("learning/halting.json")["runs"]
    shown = next(r for r in runs if (r["model"], r["weights"], r["seed"]) == ("default", "ema", 0))
    facts = shown["facts"]
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    steps, items = zip(*facts["steps"], strict=True)
    axes[0].bar(steps, items, color=BLUE)
    axes[0].set_yscale("log")
    axes[0].set(xlabel="supervision steps taken", ylabel="puzzles", title="how long it thinks")
    pairs = facts["first_right_and_steps_of_solved"]
    first, taken, count = zip(*pairs, strict=True)
    most = max(count)
    axes[1].plot([1, 16], [1, 16], color=GREY, linestyle="--")
    axes[1].scatter(first, taken, s=[15 + 250 * n / most for n in count], color=BLUE, alpha=0.7)
    axes[1].set(
        xlabel="first step that is right", ylabel="steps taken", title="it stops when right"
    )
    blanks = facts["steps_by_blanks_of_solved"]
    places = [int(blank) for blank in blanks]
    axes[2].plot(places, [each["mean_steps"] for each in blanks.values()], color=BLUE, marker="o")
    axes[2].set(xlabel="blanks of the puzzle", ylabel="mean steps", title="harder takes longer")
    for ax in axes:
        ax.grid(alpha=0.3)
    return figure


def step_by_step() -> Any:
    """A puzzle, and the answer after each step until it stops."""
    use_our_package()
    from reference_reasoner.reasoner.evaluation.sudoku_steps import DrawnSudoku

    shown = load("learning/halting.json")["step_by_step"]
    drawn = DrawnSudoku(puzzle=shown["puzzle"], solution=shown["solution"])
    steps = zip(shown["answers"], shown["confidences"], strict=True)
    panels = [("the puzzle", shown["puzzle"])]
    panels += [
        (f"step {number}: {100 * sure:.0f} % sure", answer)
        for number, (answer, sure) in enumerate(steps, 1)
        if number <= shown["steps"]
    ]
    columns = min(6, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(1.9 * columns, 2.2 * lines), layout="constrained", squeeze=False
    )
    for ax in axes.flat:
        ax.axis("off")
    for ax, (title, grid) in zip(axes.flat, panels, strict=False):
        drawn.draw(grid, ax)
        ax.set_title(title, fontsize=9)
    return figure


def ablations() -> Any:
    """Each variation's difference from its baseline, with its interval."""
    parts = filter(exists, STUDIES)
    found = {part: load(f"learning/{part}.json")["comparison"]["lines"][1:] for part in parts}
    found["ablations"] += load("learning/ema.json")["comparison"]["lines"][1:]
    rows = max(map(len, found.values()))
    figure, axes = pyplot.subplots(
        1, len(found), figsize=(14, 0.9 + 0.3 * rows), layout="constrained"
    )
    for ax, (part, lines) in zip(axes, found.items(), strict=True):
        for place, line in enumerate(reversed(lines)):
            each = line["difference"]
            value, low, high = (100 * each[name] for name in ("value", "low", "high"))
            colour = GREY if line["verdict"] == "not told apart" else BLUE
            ax.plot([low, high], [place, place], color=colour, linewidth=2.5)
            ax.plot(value, place, "o", color=colour)
        ax.set_yticks(range(len(lines)), [line["name"] for line in reversed(lines)])
        ax.axvline(0, color="0.3", linewidth=0.8)
        ax.set_ylim(-0.5, len(lines) - 0.5)
        ax.set_title(part)
        ax.grid(alpha=0.3, axis="x")
    figure.supxlabel("points against the baseline")
    return figure
