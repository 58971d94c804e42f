"""The section of docs/results.md about how long the reference model thinks."""

from collections.abc import Mapping

from .stored import head, load, percent, row


def halting() -> list[str]:
    """Halting on fresh puzzles, of averaged and raw weights, with and without diversity term."""
    found = load("learning/halting.json")
    lines = [
        "## Does it think longer where it is harder?",
        "",
        f"6 x 6 puzzles that no split has (`{' '.join(found['puzzles'][:7])}`, blanks from 8 to",
        "minimal), up to 16 supervision steps, threshold tuned on validation. Spread and rank",
        "correlations are over the items that full depth solves, with 95 % intervals; the rest",
        "stands apart. *In doubt* are the steps at which 20 to 80 % of the items are right.",
        "",
        *head(
            [
                "model, weights, seed",
                "solved",
                "not",
                "first right later than step 1",
                "std of steps",
                "Spearman, first right step",
                "Spearman, blanks",
                "mean steps",
                "lost",
                "calibration error in doubt",
            ]
        ),
    ]
    for run in found["runs"]:
        scores, facts = run["scores"], run["facts"]
        lost = scores["accuracy_at_full_depth"]["value"] - scores["accuracy"]["value"]
        doubt = scores.get("calibration_error_in_doubt")
        cells = (
            f"{run['model']}, {run['weights']}, {run['seed']}",
            f"{facts['solved_by_full_depth']:,}",
            f"{facts['items'] - facts['solved_by_full_depth']:,}",
            percent(scores["later_than_first"]["value"], 1),
            plain(scores["std_steps_solved"]),
            plain(scores["spearman_first_correct"]),
            plain(scores["spearman_difficulty"]),
            f"{scores['mean_steps']['value']:.2f}",
            f"{100 * lost:.2f} points",
            "no step" if doubt is None else plain(doubt),
        )
        lines.append(row(cells))
    shown = found["step_by_step"]
    blanks = shown["puzzle"].count(0)
    return [
        *lines,
        "",
        "![Steps taken, against need](halting.png)",
        "",
        f"One of them, {blanks} blanks, answer by answer (seed 0, averaged weights), chosen as",
        f"`report` does: the hardest one solved. It stops after {shown['steps']} steps; a cell",
        "that is wrong is filled.",
        "",
        "![A puzzle, the answer after each step, and how sure the head is](step_by_step.png)",
        "",
    ]


def plain(score: Mapping[str, float]) -> str:
    """`0.84 (0.82 to 0.86)`."""
    return f"{score['value']:.2f} ({score['low']:.2f} to {score['high']:.2f})"
