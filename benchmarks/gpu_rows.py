"""Every figure that is asked of a GPU but training, in one command of under ten minutes.

    python -m benchmarks.gpu_rows --out O [--official CHECKOUT]      # on a machine with a GPU
    python -m benchmarks.gpu_rows --out O --rehearse                 # on a CPU, with tiny presets

One after another, a process each: `gpu_bench` of `grid25m` (latency at full depth and with halting,
memory of inference and of a training step) and of `lm25m` (prefill), `decode` of `lm25m`,
`inference` with the weights that ship, and `training_step` against the official TRM code where its
checkout is named. Each has its share of the time and is stopped at the end of it; O/gpu_rows.json
is written after each, so that what is cut off loses one row, and keeps what O had of it. Runs from
a checkout with `reference_impl/` in it and installs nothing; what it needs is said in
benchmarks/gpu_training.py. What is asked of `grid25m` and `lm25m` stands in budgets.toml.

Leaves with 0; 1 where a row could not be measured or a requirement does not hold.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import ROOT
from .claims import folder_for_output, machine

PROJECT = ROOT / "reference_impl"
REFERENCE = "reference_reasoner"
ONCE = ("--repetitions", "1", "--require-gpu", "--no-exact")
TAIL = 2000
"""Characters of a row's output that are kept."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A module, what it is called with, and its seconds."""

    name: str
    module: str
    words: tuple[str, ...]
    rehearsal: tuple[str, ...]
    """What it is called with on a CPU."""
    seconds: int
    folder: Path = ROOT
    """Where it runs: `gpu_bench` reads the budgets of the project around it."""


ROWS = (
    Row(
        name="grid25m",
        module=REFERENCE,
        words=("gpu_bench", "--preset", "grid25m", *ONCE),
        rehearsal=("gpu_bench", "--preset", "smoke"),
        seconds=200,
        folder=PROJECT,
    ),
    Row(
        name="lm25m",
        module=REFERENCE,
        words=("gpu_bench", "--preset", "lm25m", *ONCE),
        rehearsal=("gpu_bench", "--preset", "recall_smoke"),
        seconds=140,
        folder=PROJECT,
    ),
    Row(
        name="decode",
        module="benchmarks.decode",
        words=(
            *("--device", "cuda", "--preset", "lm25m", "--contexts", "1024", "8192"),
            *("--graph", "--compile", "--fused", "--dtype", "bf16"),
        ),
        rehearsal=(
            *("--preset", "recall_smoke", "--contexts", "16", "32", "--tokens", "2"),
            "--fused",
        ),
        seconds=90,
    ),
    Row(
        name="inference",
        module="benchmarks.inference",
        words=("--device", "cuda", "--puzzles", "512"),
        rehearsal=("--puzzles", "2"),
        seconds=60,
    ),
    Row(
        name="training_step",
        module="benchmarks.training_step",
        words=("--device", "cuda", "--precision", "bf16", "--batch", "384", "--compiled"),
        rehearsal=("--batch", "1"),
        seconds=110,
    ),
)
MOST_SECONDS = 600


def measured(row: Row, words: Sequence[str], out: Path) -> dict[str, Any]:
    """The row's exit code, seconds, JSON and last output; code None where time ran out.

    Its JSON and pictures reach `out` when it has written them; until then those there stay.
    """
    with tempfile.TemporaryDirectory(dir=out) as new:
        path = Path(new, f"{row.name}.json")
        command = [sys.executable, "-m", row.module, *words, "--json", str(path)]
        began = time.perf_counter()
        try:
            done = subprocess.run(
                command,
                cwd=row.folder,
                env={**os.environ, "PYTHONPATH": _sources()},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=row.seconds,
                check=False,
            )
            code, said = done.returncode, done.stdout
        except subprocess.TimeoutExpired as late:
            code, said = None, (late.stdout or b"").decode(errors="replace")
        seconds = time.perf_counter() - began
        result = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        for written in sorted(Path(new).iterdir()) if result else []:
            written.replace(out / written.name)
    return {
        "command": ["python", "-m", row.module, *words],
        "code": code,
        "seconds": seconds,
        "limit_s": row.seconds,
        "output_tail": said[-TAIL:],
        "result": result,
    }


def _sources() -> str:
    """PYTHONPATH: ours, and after them the caller's, who may have our dependencies there."""
    theirs = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(PROJECT / "src"), str(ROOT), *([theirs] if theirs else [])])


def complaint(name: str, found: Mapping[str, Any]) -> str | None:
    """What was wrong with a row, in one line; None where nothing was."""
    if found["code"] is None:
        return f"{name}: stopped after {found['limit_s']} s"
    last = found["output_tail"].strip().splitlines()[-1:] or ["it said nothing"]
    return None if found["code"] == 0 else f"{name}: left with {found['code']}: {last[0]}"


def main(argv: Sequence[str]) -> int:
    """Measure the rows, print what becomes of each, write the JSON."""
    parser = argparse.ArgumentParser(
        prog="gpu_rows", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [row.name for row in ROWS]
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the JSON")
    parser.add_argument("--official", type=Path, metavar="PATH", help="official TRM checkout")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="ROW")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, with tiny presets")
    flags = parser.parse_args(argv)
    if not flags.rehearse and not torch.cuda.is_available():
        parser.error("torch finds no GPU here; --rehearse runs everything on a CPU")
    if flags.official is not None and not flags.official.is_dir():
        parser.error(f"--official {flags.official}: there is no such folder")
    if flags.official is None and set(flags.only) == {"training_step"}:
        parser.error("--only training_step: it is against the official code; name --official PATH")
    out = folder_for_output(parser, "--out", flags.out).resolve()
    gpu = None if flags.rehearse else torch.cuda.get_device_name()
    found: dict[str, Any] = {}
    complaints = []
    for row in (row for row in ROWS if row.name in flags.only):
        words = list(row.rehearsal if flags.rehearse else row.words)
        if row.name == "training_step":
            if flags.official is None:
                print("training_step: skipped: name a checkout with --official PATH", flush=True)
                continue
            words += ["--official", str(flags.official.resolve())]
        found[row.name] = measured(row, words, out)
        content = {"machine": {**machine(), "torch": torch.__version__, "gpu": gpu}, "rows": found}
        (out / "gpu_rows.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        wrong = complaint(row.name, found[row.name])
        complaints += [wrong] if wrong else []
        print(wrong or f"{row.name}: {found[row.name]['seconds']:.0f} s", flush=True)
    return int(bool(complaints))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
