"""`python -m benchmarks.before_and_after OLD`: does a change of layout change any behaviour?

Renders both examples from the commit OLD and from the working tree, runs the same commands in both
(training, scoring, reporting, counting, solving, refusals) and compares what they leave and print:
state-dict keys, records, hashes, checkpoints byte for byte, predictions, the files of a run,
exit codes and error sentences. Leaves with 1 where anything differs that is not in INTENDED.

`--speed ROUNDS` times both instead: processes of the old and the new project take turns, on a
machine that does nothing else; `--suite` adds the projects' own tests, minutes a turn.
"""

import argparse
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import copier
import yaml

from . import ROOT

PACKAGES = {"classifier": "my_experiment", "recursive_reasoner": "reference_reasoner"}
RUNS = {"classifier": ["smoke"], "recursive_reasoner": ["smoke", "maze_smoke", "recall_smoke"]}
INTENDED = {
    "help of new": "`new task` writes a folder, and `new data|model` add to one",
    "commands": "`gpu_bench` is a command: it was `python -m <package>.profiling.gpu_bench`",
    "refused: zzz": "the sentence lists all commands, `gpu_bench` among them",
}
"""{what differs: why it was meant to}"""
REFUSED: list[list[str]] = [
    ["zzz"],
    ["train", "--preset", "nothing"],
    ["train", "--training.steps", "-1"],
    ["train", "--training.stesp", "3"],
    ["train", "--resume"],
    ["evaluate", "nowhere"],
    ["replay", "smoke", "x"],
    ["profile", "--check", "--accept"],
    ["study", "seeds", "nothing"],
    ["study", "ablate", "smoke", "--vary", "a"],
    ["doctor", "nowhere"],
]
KEYS = """
import importlib, json, sys, torch
package = sys.argv[1]
project = importlib.import_module(f"{package}.project")
found = {}
for preset, task in project.PRESETS.items():
    module, _, name = project.TASKS[task].partition(":")
    kind = getattr(importlib.import_module(module, package), name)
    with torch.device("meta"):
        state = kind(kind.presets[preset]()).build_model().state_dict()
    found[preset] = {key: [list(value.shape), str(value.dtype)] for key, value in state.items()}
print(json.dumps(found))
"""
"""Prints {preset: {key of the state dict: [shape, dtype]}}, in the layout of either commit."""
LAYER = """
import importlib, json, statistics, sys, time, torch
package, compiled = sys.argv[1], sys.argv[2] == "compiled"
def found(*places):
    for place in places:
        try:
            return importlib.import_module(f"{package}.{place}")
        except ModuleNotFoundError:
            pass
torch.set_num_threads(2)
models = "reasoner.models.memory"
config = found(f"{models}.config", "models.memory_config").MemoryConfig
memory = found(f"{models}.neural_memory", "models.neural_memory").NeuralMemory
times = {}
for depth in (1, 2):
    torch.manual_seed(0)
    layer = memory(384, config(heads=6, depth=depth, chunk=64), causal=True)
    call = torch.compile(layer) if compiled else layer
    x = torch.randn(2, 1024, 384)
    def forward():
        with torch.no_grad():
            call(x)
    def both():
        call(x).square().mean().backward()
    for name, act in (("forward", forward), ("both passes", both)):
        for _ in range(3):
            act()
        taken = []
        for _ in range(15):
            since = time.perf_counter()
            act()
            taken.append(time.perf_counter() - since)
        times[f"memory layer, depth {depth}, {name}"] = statistics.median(taken)
print(json.dumps(times))
"""
"""Prints {what: median seconds of a call} of the memory's layer, in the layout of either commit."""
SUITE = ("-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", "-p", "no:cacheprovider")
Facts = dict[str, Any]


def main() -> int:
    """Compare, print a line for each thing compared, and return 1 where one differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", metavar="OLD", help="the commit to compare with")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the verdicts here")
    parser.add_argument("--speed", type=int, metavar="ROUNDS", help="time both, in turns, instead")
    parser.add_argument("--suite", action="store_true", help="with --speed: the own tests, too")
    flags = parser.parse_args()
    verdicts: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as name:
        old = extracted(flags.old, Path(name) / "old")
        for example, package in PACKAGES.items():
            sides = []
            for side, template, ref in (("old", old, None), ("new", ROOT, "HEAD")):
                project = Path(name) / f"{side}-{example}"
                answers = reference_answers() if package.startswith("ref") else {}
                copier.run_copy(
                    str(template), project, data=answers, defaults=True, quiet=True, vcs_ref=ref
                )
                sides.append(project)
            if flags.speed:
                verdicts[example] = timed(*sides, package, flags.speed, suite=flags.suite)
            else:
                found = [facts(project, package, RUNS[example]) for project in sides]
                verdicts[example] = compared(*found)
    for example, lines in verdicts.items():
        for what, verdict in lines.items():
            print(f"{example:<20}{what:<34}{verdict}")
    if flags.json is not None:
        flags.json.write_text(json.dumps({"old": flags.old, **verdicts}, indent=2) + "\n")
    return int(any("DIFFERS" in each for lines in verdicts.values() for each in lines.values()))


def extracted(commit: str, folder: Path) -> Path:
    """The files of a commit, without its repository."""
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", commit], capture_output=True, check=True
    )
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def reference_answers() -> dict[str, Any]:
    """The answers that reference_impl/ is rendered with."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "tests/reference_answers.yml").read_text())
    return found


def facts(project: Path, package: str, presets: Sequence[str]) -> Facts:
    """{what: how it is} of one rendered project."""
    found: Facts = {"state-dict keys": json.loads(python(project, "-c", KEYS, package).stdout)}
    overview = command(project, package, "--help")
    names = re.findall(r"^  (\w+)", overview["stdout"], re.MULTILINE)
    found["commands"] = names
    for name in names:
        if name != "gpu_bench":
            found[f"help of {name}"] = command(project, package, name, "--help")
    for preset in presets:
        run = ("runs", preset)
        found[f"train {preset}"] = command(
            project, package, "train", "--preset", preset, "--run-dir", "/".join(run)
        )
        for words in (["evaluate"], ["evaluate", "--split", "test"], ["report"]):
            said = command(project, package, words[0], preset, *words[1:])
            found[f"{' '.join(words)} {preset}"] = said
        found |= {f"{preset}: {k}": v for k, v in of_run(project.joinpath(*run)).items()}
        counted = project / "counted.json"
        command(project, package, "profile", "--preset", preset, "--check", "--json", counted)
        found[f"{preset}: counts"] = json.loads(counted.read_text())["exact"]
    for words in REFUSED:
        found[f"refused: {' '.join(words)}"] = command(project, package, *words)
    if "solve" in names:
        puzzles = project / "some.txt"
        make = ("generate", "--side", "6", "--count", "20", "--seed", "5", "--out", "some.txt")
        found["generate"] = command(project, package, *make) | {"file": puzzles.read_text()}
        for weights in ("sudoku6", "smoke"):
            answers = project / f"{weights}.json"
            command(project, package, "solve", puzzles, "--run", weights, "--json", answers)
            if answers.exists():
                found[f"solve by {weights}"] = without_clocks(json.loads(answers.read_text()))
    return found


def of_run(run: Path) -> Facts:
    """What a run left, without what depends on the clock or on where it stands."""
    data = json.loads((run / "run.json").read_text())
    names = ("weights_sha256", "state_sha256", "best", "final_metrics", "task_facts", "parameters")
    names += ("data_fingerprint", "status", "stop_step", "stop_reason", "trajectories")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = sorted(path for path in run.rglob("*") if path.is_file())
    whole = [path for path in kept if path.suffix in {".safetensors", ".jsonl", ".toml", ".png"}]
    hashes = {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in whole
        if path.name != "metrics.jsonl" and "tensorboard" not in path.parts
    }
    return {
        "run.json": {name: data[name] for name in names},
        "keys of run.json": sorted(data),
        "records": without_clocks(records),
        "files": [re.sub(r"tfevents\..*", "tfevents", str(path.relative_to(run))) for path in kept],
        "bytes of weights, states, rows": hashes,
    }


def timed(old: Path, new: Path, package: str, rounds: int, *, suite: bool) -> dict[str, str]:
    """{what: seconds of both, and the new one's over the old one's}, medians over the rounds."""
    found: dict[str, dict[str, list[float]]] = {}
    for turn in range(rounds):
        both = (("old", old), ("new", new))
        for side, project in both if turn % 2 else reversed(both):
            for what, seconds in one_turn(project, package, turn, suite=suite).items():
                found.setdefault(what, {}).setdefault(side, []).append(seconds)
    lines = {}
    for what, sides in found.items():
        one, other = statistics.median(sides["old"]), statistics.median(sides["new"])
        ratios = [b / a for a, b in zip(sides["old"], sides["new"], strict=True)]
        spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        lines[what] = f"{one:.4g} s, now {other:.4g} s; ratio {spread} in {rounds} rounds"
    return lines


def one_turn(project: Path, package: str, turn: int, *, suite: bool) -> dict[str, float]:
    """{what: seconds} of one project."""
    run = f"runs/turn-{turn}"
    calls = {
        "--help": ("-m", package, "--help"),
        "train --preset smoke": ("-m", package, "train", "--preset", "smoke", "--run-dir", run),
        "evaluate": ("-m", package, "evaluate", run),
    }
    if suite:
        calls["the rendered suite"] = SUITE
    seconds = {}
    for what, words in calls.items():
        since = time.perf_counter()
        done = python(project, *words)
        seconds[what] = time.perf_counter() - since
        assert done.returncode == 0, done.stderr[-500:] or done.stdout[-500:]
    if package == PACKAGES["recursive_reasoner"]:
        for form in ("eager", "compiled"):
            layer = json.loads(python(project, "-c", LAYER, package, form).stdout)
            seconds |= {f"{what}, {form}": each for what, each in layer.items()}
    return seconds


def without_clocks(tree: Any) -> Any:
    """The JSON value without the fields that depend on the clock."""
    if isinstance(tree, list):
        return [without_clocks(each) for each in tree]
    if isinstance(tree, Mapping):
        timed = ("wall_", "seconds", "ms")
        return {k: without_clocks(v) for k, v in tree.items() if not k.startswith(timed)}
    return tree


def command(project: Path, package: str, *words: object) -> dict[str, Any]:
    """Exit code and output of a command of the project, without clocks and paths."""
    done = python(project, "-m", package, *map(str, words))
    clean = [
        re.sub(r"\d+\.?\d* ?(s|ms|examples/s|/s|min)\b", "T", text).replace(str(project), "HERE")
        for text in (done.stdout, done.stderr)
    ]
    return {"code": done.returncode, "stdout": clean[0], "stderr": clean[1]}


def python(project: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Python with the project's package, on one thread."""
    paths = {"PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=project,
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
        check=False,
    )


def compared(old: Facts, new: Facts) -> dict[str, str]:
    """{what: `equal`, or where the two differ first}."""
    lines: dict[str, str] = {}
    for what in [*old, *(name for name in new if name not in old)]:
        if old.get(what) == new.get(what):
            lines[what] = "equal"
        elif what in INTENDED:
            lines[what] = f"differs as intended: {INTENDED[what]}"
        else:
            lines[what] = f"DIFFERS: {difference(old.get(what), new.get(what))}"
    return lines


def difference(old: Any, new: Any) -> str:
    """The first place at which two JSON values differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*old, *new]:
            if old.get(name) != new.get(name):
                return f"{name}: {difference(old.get(name), new.get(name))}"
    if isinstance(old, str) and isinstance(new, str):
        pairs = zip(old.splitlines(), new.splitlines(), strict=False)
        first = next(((a, b) for a, b in pairs if a != b), (old[-200:], new[-200:]))
        return f"{first[0]!r}, now {first[1]!r}"
    return f"{str(old)[:300]}, now {str(new)[:300]}"


if __name__ == "__main__":
    sys.exit(main())
