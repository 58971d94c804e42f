"""The section of docs/results.md about 9 x 9 Sudoku on a GPU, from results/gpu/*.json."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "gpu"
PIECES = ("first", "second")
COMMAND = "python -m benchmarks.gpu_training"
MISSING = (
    f"Not measured yet. What is left to run, on a machine with one GPU: `{COMMAND} --piece first",
    f"--out results/gpu --official CHECKOUT`, then at once `{COMMAND} --piece second",
    f"--out results/gpu --final`; `{COMMAND} --plan --final` says what each minute buys. And",
    "`python -m benchmarks.gpu_rows --out results/gpu --official CHECKOUT`, ten minutes, for the",
    "latencies, memories and ratios that are asked of a GPU.",
)
STRATA = {
    "accuracy_guesses_0": "0 guesses",
    "accuracy_guesses_1_to_4": "1 to 4",
    "accuracy_guesses_5_up": "5 and more",
    "accuracy": "all",
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
        for part in (_scores(each), _curves(each), _steps(each)):
            rows = list(part)
            lines += [*rows, ""] if rows else []
    return lines


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
    for name, result in piece.get("test", {}).items():
        yield _row([name, "", f"{result['step']:,}", "test", *_cells(result)])


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
