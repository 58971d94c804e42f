"""The section of docs/results.md about 9 x 9 Sudoku on a GPU, from results/gpu/*.json."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "gpu"
PIECES = ("first", "second")
COMMAND = "python -m benchmarks.gpu_training"
MISSING = (
    "Not measured yet. What is left to run, on a machine with one GPU:",
    f"`{COMMAND} --piece first --out results/gpu`, then at once",
    f"`{COMMAND} --piece second --out results/gpu --anneal --final`;",
    f"`{COMMAND} --plan --final` says what each minute buys.",
)
STRATA = {
    "accuracy_guesses_0": "0 guesses",
    "accuracy_guesses_1_to_4": "1 to 4",
    "accuracy_guesses_5_up": "5 and more",
    "accuracy": "all",
}
HALTING = {
    "mean_steps": "mean steps of 16",
    "std_steps_solved": "their std, solved ones",
    "spearman_first_correct": "Spearman with the first right step",
    "spearman_difficulty": "Spearman with guesses",
    "calibration_error": "calibration error",
}
POINTS = 8
"""Of a learning curve, at most."""


def gpu(folder: Path = FOLDER) -> list[str]:
    """The section's lines; one sentence where no piece has been run."""
    lines = ["## 9 x 9 Sudoku on a GPU", ""]
    found = [json.loads(path.read_text("utf-8")) for path in map(folder.joinpath, _files())
             if path.exists()]  # fmt: skip
    real = [each for each in found if not each["rehearsal"]]
    if not real:
        return [*lines, *MISSING, ""]
    for each in real:
        lines += [*_about(each), ""]
        for part in (_scores(each), _halting(each), _curves(each), _steps(each)):
            rows = list(part)
            lines += [*rows, ""] if rows else []
    return [*lines, *_conclusions(real)]


def summary(folder: Path = FOLDER) -> list[str]:
    """The README's table of the model that was trained longest; nothing where none was."""
    path = folder / "second.json"
    if not path.exists():
        return []
    piece = json.loads(path.read_text("utf-8"))
    name = piece["favoured"]
    model, test = piece["models"][name], piece["test"][name]
    gpu_name = model["environment"]["gpu"]
    return [
        _row(
            [f"9 x 9 Sudoku, {model['device_seconds']:.0f} s on one {gpu_name}", *STRATA.values()]
        ),
        _row(["---"] * (1 + len(STRATA))),
        _row([f"`{name}`, exact, {test['examples']} test puzzles by guesses", *_cells(test)]),
        _row([f"the same, {_public(piece)}", *_cells(piece["foreign"])]),
    ]


def _public(piece: Mapping[str, Any]) -> str:
    """sudoku10k.txt of norvig/pytudes, as far as it was taken; nothing is trained on it."""
    found = piece.get("foreign")
    return f"{found['examples'] if found else 0:,} puzzles of a public list"


def _conclusions(pieces: Sequence[Mapping[str, Any]]) -> list[str]:
    """What may be concluded; only where the models' pieces are all there."""
    if len(pieces) < len(PIECES):
        return []
    return [
        "![Exact on validation against device-seconds](gpu_curves.png)",
        "",
        "All three models were trained by one recipe (data, batch, passes, learning rate up to the",
        "decay at the end of the longest), one seed each, for the seconds in the tables: compare",
        "the curves at equal device-seconds. Mixing over the positions solves most puzzles when",
        "attention has begun to, and attention beside memory, whose steps take longest, has not.",
        "Whether they get there later is not shown. What limits the best: puzzles of many guesses",
        "that end in a wrong answer, to which more supervision steps than in training change",
        "nothing, while the score still rose as the learning rate fell. The next experiments:",
        "twice the time, and these minutes for attention.",
        "",
    ]


def _files() -> list[str]:
    return [f"{piece}.json" for piece in PIECES]


def _about(piece: Mapping[str, Any]) -> Iterator[str]:
    known = [each["environment"] for each in piece["models"].values() if "environment" in each]
    device = f"{known[0]['gpu']}, torch {known[0]['torch']}" if known else "device unknown"
    puzzles, data = sum(piece["data"]["training_puzzles"].values()), piece["data"]
    yield f"`{piece['command']}` at commit {piece['commit'] or 'unknown'}: {device};"
    yield f"{puzzles:,} training puzzles ({data['bytes'] / 1e6:.1f} MB, made in"
    yield f"{data['seconds']:.0f} s); {piece['seconds']:.0f} s in all. Averaged weights at the"
    yield "stop, 95 % bootstrap intervals over the split's puzzles, one seed. Device-seconds"
    yield "are those of the training process: its start, evaluations and saving count."


def _scores(piece: Mapping[str, Any]) -> Iterator[str]:
    """A row for each model and split."""
    yield _row(["model", "device-seconds", "steps", "split", *STRATA.values()])
    yield _row(["---"] * (4 + len(STRATA)))
    for name, model in piece["models"].items():
        if "problem" in model:
            yield _row([name, model["problem"], *[""] * (2 + len(STRATA))])
        if "validation" in model:
            measured = [f"{model['device_seconds']:.0f}", f"{model['steps']:,}"]
            yield _row([name, *measured, "validation", *_cells(model["validation"])])
    more = {"validation, 64 steps": piece.get("validation_with_more_steps")}
    more |= {_public(piece): piece.get("foreign")}
    for split, result in more.items():
        if result is not None:
            yield _row([piece["favoured"], "", f"{result['step']:,}", split, *_cells(result)])
    for name, result in piece.get("test", {}).items():
        yield _row([name, "", f"{result['step']:,}", "test", *_cells(result)])


def _halting(piece: Mapping[str, Any]) -> Iterator[str]:
    """How long it thinks, and whether as long as it needs."""
    judged_on = {"test": piece.get("test", {}).get(piece.get("favoured", ""))}
    judged_on |= {_public(piece): piece.get("foreign")}
    there = {split: found["scores"] for split, found in judged_on.items() if found}
    if not there:
        return
    yield _row(["halting, on", "at the stop", "at full depth", *HALTING.values()])
    yield _row(["---"] * (3 + len(HALTING)))
    for split, scores in there.items():
        cells = [_interval(scores[name]) for name in ("accuracy", "accuracy_at_full_depth")]
        cells += [_number(scores[name]) for name in HALTING]
        yield _row([split, *cells])


def _number(score: Mapping[str, float]) -> str:
    return f"{score['value']:.3g} ({score['low']:.3g} to {score['high']:.3g})"


def _cells(result: Mapping[str, Any]) -> list[str]:
    return [_interval(result["scores"].get(name)) for name in STRATA]


def _interval(score: Mapping[str, float] | None) -> str:
    if score is None:
        return "-"
    value, low, high = (100 * score[name] for name in ("value", "low", "high"))
    return f"{value:.1f} % ({low:.1f} to {high:.1f})"


def _curves(piece: Mapping[str, Any]) -> Iterator[str]:
    """Validation accuracy against device-seconds."""
    names = [name.removeprefix("accuracy_") for name in STRATA]
    yield _row(["model", "device-seconds", "step", *STRATA.values()])
    yield _row(["---"] * (3 + len(STRATA)))
    for model, found in piece["models"].items():
        for point in _some(found.get("curve", [])):
            cells = [f"{100 * point[n]:.1f} %" if n in point else "-" for n in names]
            yield _row([model, f"{point['device_seconds']:.0f}", f"{point['step']:,}", *cells])


def _some(points: Sequence[Any]) -> list[Any]:
    """At most POINTS of them, the first and the last among them."""
    last = len(points) - 1
    places = {round(last * at / (POINTS - 1)) for at in range(POINTS)} if last > 0 else {0}
    return [points[place] for place in sorted(places)] if points else []


def _steps(piece: Mapping[str, Any]) -> Iterator[str]:
    """Step times, and the official code's."""
    found = piece.get("steps", {})
    yield _row(["step of", "mode", "puzzles", "median ms", "peak MiB"])
    yield _row(["---"] * 5)
    for model, modes in found.get("models", {}).items():
        for mode, each in modes.items():
            if "problem" in each:
                yield _row([model, mode, "", each["problem"], ""])
                continue
            peak = each["peak_allocated_mib"]
            cells = [f"{each['batch_size']}", f"{each['median_ms']:.1f}"]
            yield _row([model, mode, *cells, "-" if peak is None else f"{peak:,.0f}"])
    official = found.get("official")
    if official is None:
        return
    yield ""
    if "skipped" in official:
        yield f"The official TRM code beside ours: {official['skipped']}."
        return
    yield f"Official TRM code ({official['code']}), {official['mode']}: a step takes"
    yield f"{official['official']['median_ms']:.1f} ms, ours of `trm7m`"
    yield f"{official['ours']['median_ms']:.1f} ms, ratio {official['official_over_ours']:.2f},"
    yield f"{official['shape']['batch_size']} puzzles."


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
