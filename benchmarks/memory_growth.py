"""Does the memory layer's time and memory grow no faster than its text?

`python -m benchmarks.memory_growth`: one causal layer of 384 numbers a token and 6 heads, forward
and backward, on one row of 8K to 64K tokens; a process for each length, as a peak of memory never
goes down again. The exponents are of seconds, and of the peak less what the process held before,
over the number of tokens: 1 is linear, 2 is what attention to everything costs. Freed memory is
kept: where glibc gives it back, page faults add a tenth to the exponent of time. Lengths take
turns, several processes each: what slows the machine down for a minute slows all of them down.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from . import ROOT
from .decode import exponent, resident_bytes
from .in_turns import keep_freed_memory
from .memory_layer import WIDTH, both, ours
from .peer_scripts import Line, check_shared, conclude, peer_parser, shown, use_our_package

LENGTHS = (8192, 16384, 32768, 65536)
MOST_EXPONENT = 1.05
ROUNDS = 4
DEPTHS = {1: "exact linear memory", 2: "deep memory"}


def one(depth: int, tokens: int, threads: int, repetitions: int) -> dict[str, Any]:
    """Seconds of each repetition and bytes of the peak beyond the start, in this process."""
    use_our_package()
    keep_freed_memory()
    torch.set_num_threads(threads)
    call = both(ours(depth), torch.randn(1, 64, WIDTH), lambda layer, x: layer(x))
    call(0)  # what is loaded at a first call is no part of the growth
    call = both(ours(depth), torch.randn(1, tokens, WIDTH), lambda layer, x: layer(x))
    before = resident_bytes()
    seconds = []
    for _ in range(1 + repetitions):
        began = time.perf_counter()
        call(0)
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "tokens": tokens,
        "seconds": seconds[1:],
        "peak_bytes": None if before is None else peak - before,
    }


def apart(depth: int, tokens: int, threads: int, repetitions: int) -> dict[str, Any]:
    """`one`, in a process of its own."""
    words = [f"--depth={depth}", f"--one={tokens}", f"--threads={threads}"]
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, *words, f"--timed={repetitions}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{tokens} tokens failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout)


def in_rounds(
    depth: int, lengths: Sequence[int], threads: int, repetitions: int
) -> list[dict[str, Any]]:
    """Of each length all rounds: at least so many repetitions, and the highest peak."""
    share = -(-repetitions // ROUNDS)
    found = []
    for rounds in zip(
        *([apart(depth, each, threads, share) for each in lengths] for _ in range(ROUNDS)),
        strict=True,
    ):
        peaks = [each["peak_bytes"] for each in rounds]
        found.append(
            {
                "tokens": rounds[0]["tokens"],
                "seconds": [value for each in rounds for value in each["seconds"]],
                "peak_bytes": None if None in peaks else max(peaks),
            }
        )
    return found


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The exponents: of every repetition's seconds, and of the peaks."""
    sizes = [run["tokens"] for run in runs]
    turns = [exponent(sizes, turn) for turn in zip(*(run["seconds"] for run in runs), strict=True)]
    peaks = [run["peak_bytes"] for run in runs]
    return {
        "runs": list(runs),
        "time_exponent": statistics.median(turns),
        "time_exponent_spread": [min(turns), max(turns)],
        "memory_exponent": None if None in peaks else exponent(sizes, peaks),
    }


def judged(what: str, found: Mapping[str, Any]) -> list[Line]:
    """Time and memory of one layer."""
    low, high = found["time_exponent_spread"]
    time_, memory = found["time_exponent"], found["memory_exponent"]
    lengths = [f"{run['tokens'] // 1024}K" for run in found["runs"]]
    span = f"over {lengths[0]} to {lengths[-1]} tokens, exponent"
    peaks = ", ".join(f"{(run['peak_bytes'] or 0) / 2**20:,.0f}" for run in found["runs"])
    return [
        Line(
            claim=f"{what}, forward and backward: time {span}",
            required=f"<= {MOST_EXPONENT}",
            measured=f"{time_:.3f} ({low:.3f} to {high:.3f})",
            holds=time_ <= MOST_EXPONENT,
        ),
        Line(
            claim=f"{what}, forward and backward: peak memory {span}",
            required=f"<= {MOST_EXPONENT}",
            measured="the system does not tell"
            if memory is None
            else f"{memory:.3f} ({peaks} MiB beyond the start)",
            holds=None if memory is None else memory <= MOST_EXPONENT,
        ),
    ]


def main(argv: list[str]) -> int:
    """Measure, print, write; 1 where a cost grows faster than the text."""
    parser = peer_parser("memory_growth", __doc__)
    parser.set_defaults(threads=2)
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS), metavar="TOKENS")
    parser.add_argument("--depth", type=int, choices=DEPTHS, help=argparse.SUPPRESS)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--timed", type=int, default=1, help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    device = check_shared(parser, flags)
    if device.type != "cpu":
        parser.error(f"--device {flags.device}: the peak is that of a process on the CPU")
    if min(flags.lengths) < 1 or len(set(flags.lengths)) < max(2, len(flags.lengths)):
        parser.error(f"--lengths {flags.lengths}: give at least two different ones, from 1 on")
    if flags.one is not None:
        print(json.dumps(one(flags.depth or 1, flags.one, flags.threads, flags.timed)))
        return 0
    lines, figures = [], {}
    for depth, what in DEPTHS.items():
        figures[what] = summary(in_rounds(depth, flags.lengths, flags.threads, flags.repetitions))
        lines += [shown(line) for line in judged(what, figures[what])]
    return conclude(lines, {"layers": figures}, device, flags.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
