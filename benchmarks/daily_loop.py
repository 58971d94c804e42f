"""`python -m benchmarks.daily_loop`: how long what is typed first and most often takes.

`copier copy`, `--help`, the way to a training's first step, `solve` of one puzzle; with --suite
the rendered project's own tests, too. Wall clock of processes of their own that take turns in a
temporary folder, in an order that changes; each is called once beforehand, and that call does
not count. What no project can do without (`import torch`, `import copier`) takes its turns with
them, so that the rest is told apart. Measured is the newest commit, in a fresh clone of it.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from . import ROOT
from .claims import Line, check_file_for_output, machine
from .peer_scripts import shown

LEAST_REPETITIONS = 3
MOST_SECONDS_OF_SUITE = 240
PACKAGE = "my_experiment"
"""What a project is called where nobody says otherwise."""
REASONER = ("--data", "example=recursive_reasoner")
COPY = (sys.executable, "-m", "copier", "copy", "--quiet", "--defaults", "--vcs-ref", "HEAD")
SUITE = ("-m", "pytest", "-n", "2", "--dist", "worksteal", "--cov")
"""As the `tests` session of the rendered noxfile on two cores."""
CLAIMS = {
    "import copier": "`import copier` alone",
    "copy": "`copier copy`, default answers",
    "copy reasoner": "`copier copy`, example=recursive_reasoner",
    "help": "`--help`",
    "import torch": "`import torch` alone",
    "train help": "`train --help`",
    "first step": "`train --preset smoke`, to the end of step 1",
    "until the loop": "of this, until the loop begins: imports, config, data, model",
    "evaluation": "of this, the evaluation before the first step",
    "save and step": "of this, the first save, and the step",
    "solve": "`solve` of a 6 x 6 puzzle, weights that ship",
}
"""{what is timed: how it is told}"""
BEYOND = {
    "copy": "import copier",
    "copy reasoner": "import copier",
    "train help": "import torch",
    "first step": "import torch",
    "solve": "import torch",
}
"""{what is timed: the import that it cannot do without}; what is beyond it is ours."""
Seconds = dict[str, float]


class FailedError(Exception):
    """A command that was to be timed failed; says which and how."""


class Place:
    """The temporary folder that everything runs in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.template, self.project = folder / "template", folder / "project"

    def copy(self, to: Path, *answers: str) -> float:
        """Seconds of `copier copy` from a clone of this repository."""
        return timed([*COPY, *answers, str(self.template), str(to)], self.folder)[0]

    def python(self, *words: str, seen: Callable[[], bool] | None = None) -> tuple[float, float]:
        """Seconds of Python in the rendered project, as `timed` gives them."""
        return timed([sys.executable, *words], self.project, self.project / "src", seen)


def timed(
    words: Sequence[str],
    folder: Path,
    source: Path | None = None,
    seen: Callable[[], bool] | None = None,
) -> tuple[float, float]:
    """(seconds until the command ended, seconds until `seen()`); FailedError where it fails.

    Our own PYTHON variables are not handed on: one of them may forbid to keep compiled modules.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    path = {} if source is None else {"PYTHONPATH": str(source)}
    environment = {**ours, **path, "OMP_NUM_THREADS": "1"}  # torch's threads spin while they wait
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        with subprocess.Popen(
            words, cwd=folder, env=environment, stdout=out, stderr=err
        ) as process:
            while seen is not None and process.poll() is None and not seen():
                time.sleep(0.002)
            seen_after = time.perf_counter() - began
            code = process.wait()
            ended_after = time.perf_counter() - began
        if code:
            raise FailedError(f"`{' '.join(words)}` left with {code}: {_last(err) or _last(out)}")
    return ended_after, seen_after


def _last(file: IO[bytes]) -> str:
    """The last line that was written; pytest says on stdout what failed."""
    file.seek(0)
    return file.read().decode(errors="replace").strip().rpartition("\n")[2]


def prepare(place: Place) -> None:
    """Clone, render, and take one puzzle out of the test split."""
    timed(["git", "clone", "--quiet", str(ROOT), str(place.template)], place.folder)
    place.copy(place.project, *REASONER)
    puzzles = place.project / "src" / PACKAGE / "reasoner" / "data" / "puzzles" / "6x6-test.txt"
    puzzle = puzzles.read_text(encoding="ascii").split()[0]
    (place.folder / "one.txt").write_text(f"{puzzle}\n", encoding="ascii")


def ways(place: Place) -> list[Callable[[], Seconds]]:
    """What is called in turns; each tells the seconds of one part or of several."""

    def copied(name: str, *answers: str) -> Seconds:
        to = place.folder / "copy"
        taken = {name: place.copy(to, *answers)}
        shutil.rmtree(to)
        return taken

    def called(name: str, *words: str) -> Seconds:
        return {name: place.python(*words)[0]}

    return [
        lambda: called("import copier", "-c", "import copier"),
        lambda: copied("copy"),
        lambda: copied("copy reasoner", *REASONER),
        lambda: called("help", "-m", PACKAGE, "--help"),
        lambda: called("import torch", "-c", "import torch"),
        lambda: called("train help", "-m", PACKAGE, "train", "--help"),
        lambda: first_step(place),
        lambda: called("solve", "-m", PACKAGE, "solve", str(place.folder / "one.txt")),
    ]


def first_step(place: Place) -> Seconds:
    """Train for one step: when its record is written, and what came before by the run's clock."""
    run_dir = place.folder / "run"  # not in runs/, where `solve` would look for weights
    metrics = run_dir / "metrics.jsonl"

    def seen() -> bool:
        return metrics.exists() and b'"kind": "train"' in metrics.read_bytes()

    words = ("train", "--preset", "smoke", "--training.steps", "1", "--run-dir", str(run_dir))
    _, until_step = place.python("-m", PACKAGE, *words, seen=seen)
    lines = metrics.read_text(encoding="utf-8").splitlines()
    evaluation, step = (json.loads(line)["wall_s"] for line in lines[:2])
    shutil.rmtree(run_dir)
    return {
        "first step": until_step,
        "until the loop": until_step - step,
        "evaluation": evaluation,
        "save and step": step - evaluation,
    }


def in_turns(calls: Sequence[Callable[[], Seconds]], repetitions: int) -> dict[str, list[float]]:
    """{what: its seconds in each repetition}."""
    taken: dict[str, list[float]] = {}
    for repetition in range(repetitions + 1):
        for call in calls[::-1] if repetition % 2 else calls:
            for name, seconds in call().items():
                taken.setdefault(name, []).append(seconds)
    return {name: seconds[1:] for name, seconds in taken.items()}


def told(each: Sequence[float], form: str) -> str:
    """`1.23 s (1.20 to 1.30)`: median and extremes."""
    median, low, high = (form.format(x) for x in (statistics.median(each), min(each), max(each)))
    return f"{median} ({low.split()[0]} to {high.split()[0]})"


def lines_of(taken: Mapping[str, Sequence[float]]) -> list[Line]:
    """A line for each that was timed, and for what is beyond the imports."""
    found = {claim: told(taken[name], "{:.2f} s") for name, claim in CLAIMS.items()}
    for name, floor in BEYOND.items():
        pairs = list(zip(taken[name], taken[floor], strict=True))
        beyond = told([whole - alone for whole, alone in pairs], "{:.2f} s")
        share = told([100 * (whole - alone) / whole for whole, alone in pairs], "{:.0f} %")
        found[f"{CLAIMS[name]}, beyond `{floor}`"] = f"{beyond}, {share} of it"
    return [
        Line(claim=claim, required="reported", measured=measured, holds=None)
        for claim, measured in found.items()
    ]


def suite_line(seconds: float) -> Line:
    """The project's own tests, once."""
    most, holds = f"< {MOST_SECONDS_OF_SUITE} s", seconds < MOST_SECONDS_OF_SUITE
    claim = "the rendered suite with coverage, two workers"
    return Line(claim=claim, required=most, measured=f"{seconds:.0f} s", holds=holds)


def measured(place: Place, repetitions: int, suite: bool) -> dict[str, Any]:
    """Everything, printed line by line, and the figures behind it."""
    prepare(place)
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=place.template, text=True)
    taken = in_turns(ways(place), repetitions)
    lines = [shown(line) for line in lines_of(taken)]
    found: dict[str, Any] = {"seconds": taken}
    if suite:
        found["suite_seconds"], _ = place.python(*SUITE)
        lines.append(shown(suite_line(found["suite_seconds"])))
    return {
        "machine": {**machine(), **{name: version(name) for name in ("torch", "copier")}},
        "commit": commit.strip(),
        "repetitions": repetitions,
        "lines": [asdict(line) for line in lines],
        **found,
    }


def main(argv: list[str]) -> int:
    """Measure, print, write the JSON; 1 where a command fails or a line does not hold."""
    parser = argparse.ArgumentParser(prog="daily_loop", description=__doc__)
    add = parser.add_argument
    add("--json", type=Path, metavar="FILE", help="write the figures here")
    add("--repetitions", type=int, default=7, metavar="N", help="default: 7")
    add("--suite", action="store_true", help="run the rendered project's own tests, too")
    flags = parser.parse_args(argv)
    if flags.repetitions < LEAST_REPETITIONS:
        parser.error(f"--repetitions {flags.repetitions}: at least {LEAST_REPETITIONS} are taken")
    check_file_for_output(parser, "--json", flags.json)
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = measured(Place(Path(folder)), flags.repetitions, flags.suite)
        except FailedError as error:
            print(f"daily_loop: {error}", file=sys.stderr)
            return 1
    if flags.json is not None:
        flags.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return int(any(line["holds"] is False for line in found["lines"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
