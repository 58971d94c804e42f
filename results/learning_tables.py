"""The sections of docs/results.md about what the reference model learns on two cores."""

from collections.abc import Mapping
from typing import Any

from .halting_tables import halting
from .stored import RESULTS, command_of, head, interval, load, percent, row

SEEDS = {
    "sudoku": ("6 x 6 Sudoku, exact", ">= 95 %"),
    "maze": ("9 x 9 mazes, exact path", ">= 85 %"),
    "recall": ("recall at 4 x the window, answers", ">= 95 %"),
    "diversity": ("6 x 6 Sudoku with the diversity term, exact", ""),
    "smoke": ("`recall_smoke`, answers (the smallest row: seconds)", ""),
}
"""{part: (what, what is asked)}"""
TITLES = ("variation", "seeds", "mean", "difference", "expected")


def learning() -> list[str]:
    """Every section."""
    lines = seeds()
    for section, parts in (
        (halting, ("halting",)),
        (ablations, ("ablations", "ema")),
        (distances, ("recall",)),
    ):
        missing = [part for part in parts if not exists(part)]
        words = f"Not run yet: `nox -s learning -- --only {' '.join(missing)}`."
        lines += [words, ""] if missing else section()
    return lines


def exists(part: str) -> bool:
    """Whether the part has been run."""
    return (RESULTS / "learning" / f"{part}.json").exists()


def seeds() -> list[str]:
    """Each task over its seeds."""
    lines = [
        "## What it learns in minutes on two cores",
        "",
        "`nox -s learning` renders the reference and runs the commands of these tables there, one",
        "thread a run, two at a time; the test split was opened at the end, once for all seeds.",
        "Intervals are 95 % bootstrap intervals over seeds and examples; of three seeds they know",
        "little, so each is shown. Minutes are wall clock of the training process, beside another",
        "run and other work on two cores of the processor named. The 6 x 6 test split had been",
        "opened before: for an earlier form of the preset (98.6, 90.2 and 96.5 %), and for this",
        "one when another library multiplied (98.8, 97.6 and 98.5 %; mixing 98.8, 99.0, 97.3).",
        "",
        *head(["what", "command", "split", "seeds", "mean", "minutes a run", "on", "asked"]),
    ]
    for part, (what, asked) in SEEDS.items():
        study = load(f"learning/{part}.json")
        line = study["comparison"]["lines"][0]
        scores = ", ".join(percent(score, 1) for score in line["by_seed"].values())
        runs = [run for run in study["runs"] if run["variation"] == "baseline"]
        minutes = ", ".join(f"{run['wall_s'] / 60:.1f}" for run in runs)
        examples = f"{study['split']}, {study['comparison']['examples']:,}"
        mean, processor = interval(line["mean"]), study["machine"]["processor"]
        cells = (what, command_of(study), examples, scores, mean, minutes, processor, asked)
        lines.append(row(cells))
    return [
        *lines,
        "",
        "![Accuracy on validation against seconds of training](learning_curves.png)",
        "",
        *foreign(),
    ]


def foreign() -> list[str]:
    """That foreign puzzles are not trained on."""
    found = load("learning/foreign.json")
    shared = sum(found["shared_with"].values())
    return [
        f"Foreign puzzles ({found['file']}, sha256 {found['sha256'][:12]}): {found['classes']:,}",
        f"classes up to symmetry, of which {shared} are in a shipped split",
        "(`nox -s learning -- --only foreign --puzzles FILE`).",
        "",
    ]


def summary() -> list[str]:
    """The main table, for the README."""
    no_memory = load("learning/recall.json")["comparison"]["lines"][1]
    title = "minutes on one CPU core, test split"
    lines = head([title, "three seeds", "mean, 95 % interval"])
    for part, (what, _) in list(SEEDS.items())[:3]:
        whole, *others = load(f"learning/{part}.json")["comparison"]["lines"]
        lines.append(_summary_row(what, whole))
        if part == "sudoku":
            lines.append(
                _summary_row("6 x 6 Sudoku by token mixing, a quarter of the time", others[0])
            )
    return [*lines, _summary_row("the same without memory (chance is 1.6 %)", no_memory)]


def _summary_row(what: str, line: Mapping[str, Any]) -> str:
    scores = ", ".join(percent(score, 1) for score in line["by_seed"].values())
    return row([what, scores, interval(line["mean"])])


STUDIES = {
    "sudoku": "The whole model against token mixing: 6 x 6 Sudoku",
    "ablations": "What each part is worth: 6 x 6 Sudoku, 1,500 steps",
    "tuning": "What might learn faster: 6 x 6 Sudoku, 1,500 steps",
    "curriculum": "Easier first; deeper and fewer steps: 6 x 6 Sudoku, 1,500 steps",
    "full_length": "What helped early, at full length: 6 x 6 Sudoku",
    "recall": "What each part is worth: recall",
}
"""{part: the title of its table}"""


def ablations() -> list[str]:
    """One thing at a time, with what was expected before."""
    said = load("learning/predictions.json")
    raw = load("learning/ema.json")["comparison"]
    lines = []
    for part, title in STUDIES.items():
        if not exists(part):
            lines += [f"## {title}", "", f"Not run yet: `nox -s learning -- --only {part}`.", ""]
            continue
        study = load(f"learning/{part}.json")
        comparison = study["comparison"]
        lines += [
            f"## {title}",
            "",
            f"{command_of(study)}: {comparison['examples']:,} examples of {study['split']}. One",
            "thing at a time, or it says so. The difference is from the baseline on the same seeds",
            "and examples; its intervals hold together in 95 % of studies (Bonferroni).",
            f"Expectations were committed before the runs. {_seeds(study)}: so few trainings make",
            "a verdict a hint.",
            "",
            *head([*TITLES, "what may be said", "kept"]),
        ]
        for line in comparison["lines"]:
            lines.append(row(_cells(line, said[part].get(line["name"]))))
        if part == "ablations":
            lines.append(row(_cells(raw["lines"][1], said[part]["raw_weights"])))
        lines.append("")
    return [
        *lines,
        "`raw_weights` are the same trainings as the baseline's, scored with their last raw",
        "weights (an average does not change a training), in a comparison of its own.",
        "",
        "![Differences from the baseline](ablations.png)",
        "",
    ]


def _seeds(study: Mapping[str, Any]) -> str:
    count = len(study["plan"]["seeds"])
    return f"{count} seed{'s' * (count > 1)}"


def _cells(line: Mapping[str, Any], said: Mapping[str, str] | None) -> list[str]:
    scores = ", ".join(percent(score, 1) for score in line["by_seed"].values())
    cells = [f"`{line['name']}`", scores, interval(line["mean"])]
    if line["difference"] is None or said is None:
        return [*cells, "", "", "", ""]
    found = line["difference"]
    value, low, high = (100 * found[name] for name in ("value", "low", "high"))
    points = f"{value:+.1f} points ({low:+.1f} to {high:+.1f})"
    expected = f"{said['asks']}: {said['prediction']}"
    return [*cells, points, expected, concluded(line["verdict"]), said["kept"]]


def concluded(verdict: str) -> str:
    """What a verdict allows to say, and no more."""
    if verdict == "not told apart":
        return "no difference is shown; one beyond the interval is unlikely"
    return f"it is {verdict} with this preset, data and number of steps"


def distances() -> list[str]:
    """Recall at and beyond the trained distance, every seed, with and without memory."""
    found = load("learning/recall.json")
    runs = {run["run"]: run for run in found["runs"] if run["variation"] != "multiplying_gate"}
    lines = [
        "## Recall beyond the attention's window",
        "",
        "The runs of the table above, by `distances RUN`: 16 pairs, 64 keys, 64 values, window 16,",
        "trained at a gap of 64 tokens, on examples of validation that keep their pairs. Attention",
        "alone cannot reach a value from its query: a test asserts that the gradient is zero.",
        "",
    ]
    table = {name: found["distances"][name] for name in runs}
    some = next(iter(table.values()))
    lines += head(["gap in tokens", "of the window", "queries", *table, "chance +- 3 std. errors"])
    for place, each in enumerate(some):
        scores = [percent(run[place]["token_accuracy"]) for run in table.values()]
        chance = f"{percent(each['chance'])} +- {percent(3 * each['chance_standard_error'])}"
        window = f"{each['gap_tokens'] / 16:g} x"
        lines.append(row([each["gap_tokens"], window, each["queries"], *scores, chance]))
    return [*lines, ""]
