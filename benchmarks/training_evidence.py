"""What the presets for two cores learn, and how long they take."""

from collections.abc import Iterator

from .claims import Line
from .reference_project import PACKAGE, Reference

MINUTES = 60


def trained(
    reference: Reference, preset: str, run: str, minutes: float
) -> tuple[Line, dict[str, dict[str, float]]]:
    """Train a preset, and score it on the test split."""
    done = reference.run(PACKAGE, "train", "--preset", preset, "--run-dir", f"runs/{run}")
    line = Line(
        claim=f"`train --preset {preset}`, minutes with one thread",
        required=f"<= {minutes:g}",
        measured=f"{done.seconds / MINUTES:.1f}",
        holds=done.seconds <= minutes * MINUTES,
    )
    return line, reference.scores(run, "test")


def interval(score: dict[str, float], digits: int = 4) -> str:
    """A score with its 95 % interval."""
    value, low, high = (f"{score[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def sudoku4(reference: Reference) -> Iterator[Line]:
    """4 x 4: accuracy only, there is nothing to learn about halting."""
    line, scores = trained(reference, "sudoku4", "four", 5)
    yield line
    yield Line(
        claim="4 x 4 test puzzles solved exactly",
        required=">= 0.95",
        measured=interval(scores["accuracy"]),
        holds=scores["accuracy"]["value"] >= 0.95,
    )


def sudoku6(reference: Reference) -> Iterator[Line]:
    """6 x 6: accuracy, and halting that is real."""
    line, scores = trained(reference, "default", "six", 15)
    yield line
    exact, full = scores["accuracy"], scores["accuracy_at_full_depth"]
    yield Line(
        claim="6 x 6 test puzzles solved exactly, averaged weights, tuned threshold",
        required=">= 0.90",
        measured=interval(exact),
        holds=exact["value"] >= 0.9,
    )
    lost = full["value"] - exact["value"]
    yield Line(
        claim="accuracy lost against full depth (16 steps), in points",
        required="< 1",
        measured=f"{100 * lost:.2f}, full depth {interval(full)}",
        holds=lost < 0.01,
    )
    bounds = {"std_steps_solved": 1.0, "spearman_difficulty": 0.4}
    for name, least in bounds.items():
        yield Line(
            claim=f"{name} on items that full depth solves, lower bound",
            required=f">= {least}",
            measured=interval(scores[name], 3),
            holds=scores[name]["low"] >= least,
        )
    for name in ("accuracy_minimal", "mean_steps", "spearman_first_correct", "calibration_error"):
        if name in scores:
            yield Line(
                claim=f"6 x 6 test: {name}",
                required="reported",
                measured=interval(scores[name], 3),
                holds=None,
            )


def maze(reference: Reference) -> Iterator[Line]:
    """Mazes, from end to end."""
    line, scores = trained(reference, "maze", "maze", 15)
    yield line
    yield Line(
        claim="9 x 9 mazes with the exact path",
        required="reported",
        measured=interval(scores["accuracy"]),
        holds=None,
    )
    reference.run(PACKAGE, "report", "maze")
    reference.run("benchmarks.maze_file", "50", "mazes.txt")
    done = reference.run(PACKAGE, "solve", "mazes.txt", "--run", "maze")
    yield Line(
        claim="`solve` on a file of 50 fresh mazes",
        required="runs",
        measured=done.out.strip().splitlines()[-1],
        holds=True,
    )
