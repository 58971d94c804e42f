"""Does a token cost the same after 1,000 others as after 64,000?

`python -m benchmarks.decode`: a causal preset, untrained, token by token after 1K, 4K, 16K and 64K
tokens; the contexts take turns. Tokens a second, the exponent of a token's time over the length of
its context (0 is flat, 1 is what attention to everything costs), and the bytes of the state, what
its tensors keep alive included. `PYTHONPATH=FOLDER/src` measures the project in FOLDER.
`--device cuda --graph` decodes with one launch a token, `--compile` with compiled blocks in it.
`--fused` takes a block's fused step (fused_step.py), on a GPU by its kernels.
"""

import argparse
import math
import resource
import statistics
import sys
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .decoders import Decoder
from .peer_scripts import Line, check_shared, conclude, peer_parser, shown, use_our_package

CONTEXTS = (1024, 4096, 16384, 65536)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MOST_EXPONENT = 0.05
"""Over 64 times the context a token may take 1.23 times as long."""
MOST_MS_ON_A_GPU = {"lm25m": 1.0}
"""{preset: milliseconds that a token may take, p50}"""


def main(argv: list[str]) -> int:
    """Measure, print and write; 1 where a token's cost grows with its context."""
    parser = _parser()
    flags = parser.parse_args(argv)
    device = check_shared(parser, flags)
    _refuse(parser, flags)
    use_our_package()
    try:
        model = causal_model(flags.preset, flags.set, flags.seed).to(device, DTYPES[flags.dtype])
        options = {"graph": flags.graph, "compiled": flags.compile, "fused": flags.fused}
        decoders = [Decoder(model, context, flags.seed, **options) for context in flags.contexts]
    except ValueError as error:
        parser.error(str(error))
    resident = resident_bytes()
    taken = seconds_in_turns(
        decoders, time.perf_counter, tokens=flags.tokens, repetitions=flags.repetitions
    )
    waits = {each.context: each.waits(time.perf_counter, flags.tokens) for each in decoders}
    grown = None if resident is None else (resident_bytes() or 0) - resident
    figures = {
        "model": {"preset": flags.preset, "set": flags.set, "dtype": flags.dtype},
        **options,
        **summary(dict(zip(flags.contexts, taken, strict=True)), flags.tokens),
        "p50_ms": {str(context): 1e3 * statistics.median(x) for context, x in waits.items()},
        "state_bytes": {str(each.context): each.state_bytes() for each in decoders},
        "resident_growth_bytes": grown,
    }
    lines = [shown(line) for line in judged(figures, on_gpu=device.type == "cuda")]
    return conclude(lines, figures, device, flags.json)


def _parser() -> argparse.ArgumentParser:
    parser = peer_parser("decode", __doc__)
    add = parser.add_argument
    add("--preset", default="recall", metavar="NAME", help="a causal one; default: recall")
    add(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="model.backbone.window=32"
    )
    add("--contexts", type=int, nargs="+", default=list(CONTEXTS), metavar="TOKENS")
    add("--tokens", type=int, default=128, metavar="N", help="of each repetition; default: 128")
    add("--dtype", choices=tuple(DTYPES), default="fp32", help="of the weights; default: fp32")
    add("--graph", action="store_true", help="record a token as a CUDA graph")
    add("--compile", action="store_true", help="compile the blocks that --graph records")
    add("--fused", action="store_true", help="one product in for attention and memory, one out")
    add("--seed", type=int, default=0, metavar="N", help="of weights and tokens; default: 0")
    return parser


def _refuse(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> None:
    """Leave with one sentence where the script's own flags make no measurement."""
    different = len(set(flags.contexts))
    if min(flags.contexts) < 1 or different < 2 or different < len(flags.contexts):
        parser.error(f"--contexts {flags.contexts}: give at least two different ones, from 1 on")
    if flags.tokens < 1:
        parser.error(f"--tokens {flags.tokens}: at least one")
    if flags.graph and flags.device != "cuda":
        parser.error("--graph records a CUDA graph: it needs --device cuda")
    if flags.compile and not flags.graph:
        parser.error("--compile is of blocks that --graph records: give both")


def causal_model(preset: str, settings: Sequence[str], seed: int) -> Any:
    """The preset's model, untrained, with `FIELD=VALUE` settings in TOML's words.

    Raises ValueError for a preset that is unknown, not causal or without a window, and for
    settings that cannot be read or that the model refuses.
    """
    from reference_reasoner.engine.config.fields import overlay
    from reference_reasoner.engine.errors import RefusedInputError
    from reference_reasoner.engine.seeding import seed_globals

    from .project_of_reference import REFERENCE

    try:
        kind: Any = REFERENCE.task_type(REFERENCE.task_of_preset(preset))
        config = overlay(kind.presets[preset](), dict(map(setting, settings)), "--set")
    except RefusedInputError as error:
        raise ValueError(str(error)) from error
    backbone = getattr(config.model, "backbone", None)
    if not (backbone and backbone.causal and backbone.window):
        raise ValueError(
            f"--preset {preset}: only a causal model with a window decodes in fixed room"
        )
    seed_globals(seed, "init")
    return kind(config).build_model().eval()


def setting(words: str) -> tuple[str, Any]:
    """`FIELD=VALUE` -> (field, value). Raises ValueError where it is not that."""
    name, _, value = words.partition("=")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"--set {words}: write FIELD=VALUE, the value as in TOML") from error


def seconds_in_turns(
    decoders: Sequence[Decoder], clock: Callable[[], float], *, tokens: int, repetitions: int
) -> list[list[float]]:
    """Seconds of each repetition of `tokens` tokens, decoder by decoder; one warm-up each."""
    for each in decoders:
        each.go_on(tokens)
    taken: list[list[float]] = [[] for _ in decoders]
    for _ in range(repetitions):
        for each, seconds in zip(decoders, taken, strict=True):
            began = clock()
            each.go_on(tokens)
            seconds.append(clock() - began)
    return taken


def summary(taken: Mapping[int, Sequence[float]], tokens: int) -> dict[str, Any]:
    """{context: seconds of each repetition} -> medians and spread of rate and exponent."""
    rows = []
    for context, seconds in taken.items():
        limits = {"slowest": tokens / max(seconds), "fastest": tokens / min(seconds)}
        row = {"context_tokens": context, "tokens_per_s": tokens / statistics.median(seconds)}
        row |= {f"{name}_tokens_per_s": rate for name, rate in limits.items()}
        rows.append({**row, "ms_per_token": 1e3 * statistics.median(seconds) / tokens})
    turns = [exponent(list(taken), turn) for turn in zip(*taken.values(), strict=True)]
    return {
        "tokens_a_repetition": tokens,
        "repetitions": len(turns),
        "contexts": rows,
        "time_exponent": statistics.median(turns),
        "time_exponent_spread": [min(turns), max(turns)],
    }


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """p of cost = c size^p by least squares on logarithms."""
    x, y = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    return statistics.linear_regression(x, y).slope


def judged(figures: Mapping[str, Any], *, on_gpu: bool) -> list[Line]:
    """Each context's rate; flat in time, and flat in memory to the byte."""
    most_ms = MOST_MS_ON_A_GPU.get(figures["model"]["preset"]) if on_gpu else None
    low, high = figures["time_exponent_spread"]
    growth, sizes = figures["time_exponent"], set(figures["state_bytes"].values())
    return [
        *map(_rate, figures["contexts"]),
        *(_wait(context, ms, most_ms) for context, ms in figures["p50_ms"].items()),
        Line(
            claim="time of a decoded token over the length of its context, exponent",
            required=f"<= {MOST_EXPONENT}",
            measured=f"{growth:.3f} ({low:.3f} to {high:.3f})",
            holds=growth <= MOST_EXPONENT,
        ),
        Line(
            claim="bytes of the state of decoding, at every length",
            required="the same",
            measured=", ".join(f"{size:,}" for size in sorted(sizes)),
            holds=len(sizes) == 1,
        ),
    ]


def _rate(row: Mapping[str, Any]) -> Line:
    rate, slow, fast = (row[f"{x}tokens_per_s"] for x in ("", "slowest_", "fastest_"))
    return Line(
        claim=f"tokens/s, decoded after {row['context_tokens']:,} others",
        required="reported",
        measured=f"{rate:,.1f} ({slow:,.1f} to {fast:,.1f})",
        holds=None,
    )


def _wait(context: str, milliseconds: float, most: float | None) -> Line:
    return Line(
        claim=f"ms until a token is there, p50, after {int(context):,} others",
        required="reported" if most is None else f"<= {most:g}",
        measured=f"{milliseconds:.3f}",
        holds=None if most is None else milliseconds <= most,
    )


def resident_bytes() -> int | None:
    """Memory of this process; None where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
