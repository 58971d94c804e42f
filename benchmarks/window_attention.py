"""How near is our window attention to torch's own kernels?

`python -m benchmarks.window_attention`. Causal attention with a window behind 16 persistent tokens,
as in a block of `lm25m`: 8 heads of 64, float32, without a graph. Ours (`models/attend.py`) beside
two ways to have torch do the same, scaled_dot_product_attention under a [T, T] mask and
FlexAttention, compiled, under its block mask; and beside scaled_dot_product_attention of plain
causal attention, which does other work: its rate, in pairs of query and key, is what the kernel
gives where nothing is cut out. Freed memory is kept for all. On a GPU ours is FlexAttention itself.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .in_turns import in_turns, keep_freed_memory, ratio, told
from .peer_scripts import Line, check_shared, conclude, peer_parser, shown, use_our_package

HEADS, HEAD_WIDTH, PREFIX = 8, 64, 16
TOLERANCE = 1e-4
"""Of outputs that are averages of normal numbers, in float32."""
OURS, DENSE, FLEX, CAUSAL = "ours", "SDPA, dense mask", "FlexAttention", "SDPA, plain causal"
Work = Callable[[], Tensor]


def works(device: torch.device, *, tokens: int, window: int, compiled: bool) -> dict[str, Work]:
    """{way: one call}; all but the last give the same."""
    from reference_reasoner.reasoner.models.attention.window_attention import attend
    from reference_reasoner.reasoner.models.attention.window_mask import sight
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    rows = PREFIX + tokens
    generator = torch.Generator().manual_seed(0)
    shape = (1, HEADS, rows, HEAD_WIDTH)
    q, k, v = (torch.randn(shape, generator=generator).to(device) for _ in range(3))
    rule = sight(PREFIX, window, None)
    places, none = torch.arange(rows, device=device), torch.zeros((), device=device)
    seen = rule(none, none, places[:, None], places)
    found: dict[str, Work] = {
        OURS: lambda: attend(q, k, v, prefix=PREFIX, window=window, causal=True),
        DENSE: lambda: scaled_dot_product_attention(q, k, v, attn_mask=seen),
    }
    if compiled:
        mask = create_block_mask(rule, None, None, rows, rows, device=device.type)
        flex: Any = torch.compile(flex_attention, dynamic=False)
        found[FLEX] = lambda: flex(q, k, v, block_mask=mask)
    return found | {CAUSAL: lambda: scaled_dot_product_attention(q, k, v, is_causal=True)}


def measured(
    device: torch.device, *, tokens: int, window: int, repetitions: int, compiled: bool
) -> dict[str, Any]:
    """Seconds of each way in each repetition, ratios to ours, and the pairs that each looks at.

    Raises RuntimeError where a way that ought to give what ours gives does not.
    """
    ways = works(device, tokens=tokens, window=window, compiled=compiled)
    with torch.no_grad():
        expected = ways[OURS]()
        for name in (name for name in ways if name != CAUSAL):
            apart = float((ways[name]() - expected).abs().max())
            if apart > TOLERANCE:
                raise RuntimeError(f"{name} is {apart:.1e} from what ours gives")
        turns = {name: (lambda _, work=work: work()) for name, work in ways.items()}
        seconds = in_turns(turns, device, repetitions=repetitions)
    rows = PREFIX + tokens
    within = tokens * PREFIX + PREFIX**2 + window * (window + 1) // 2 + (tokens - window) * window
    return {
        "tokens": tokens,
        "window": window,
        "pairs": {"window": within, "causal": rows * (rows + 1) // 2},
        "seconds": seconds,
        "over_ours": {name: ratio(seconds[name], seconds[OURS]) for name in ways if name != OURS},
    }


def lines_of(found: Mapping[str, Any]) -> list[Line]:
    """What came out; nothing is required."""
    seconds, pairs = found["seconds"], found["pairs"]
    mine = min(seconds[OURS])
    what = f"attention to {found['window']:,} of {found['tokens']:,} tokens"
    lines = []
    for name, times in found["over_ours"].items():
        measured = f"{told(times)}; fastest {1e3 * min(seconds[name]):,.1f} ms against "
        measured += f"{1e3 * mine:,.1f} ms"
        if name == CAUSAL:
            share = (pairs["window"] / mine) / (pairs["causal"] / min(seconds[name]))
            measured += f"; ours has {100 * share:.0f} % of its rate in pairs of query and key"
        lines.append(
            Line(
                claim=f"{what}: torch's {name} over ours, time",
                required="reported",
                measured=measured,
                holds=None,
            )
        )
    return lines


def main(argv: list[str]) -> int:
    """Measure, print, write."""
    parser = peer_parser("window_attention", __doc__)
    parser.add_argument("--tokens", type=int, default=4096, metavar="N", help="default: 4096")
    parser.add_argument("--window", type=int, default=512, metavar="N", help="default: 512")
    parser.add_argument("--compiled", action=argparse.BooleanOptionalAction, default=True)
    flags = parser.parse_args(argv)
    device = check_shared(parser, flags)
    if not 0 < flags.window < flags.tokens:
        parser.error(f"--window {flags.window} --tokens {flags.tokens}: a window cuts something")
    use_our_package()
    keep_freed_memory()
    found = measured(
        device,
        tokens=flags.tokens,
        window=flags.window,
        repetitions=flags.repetitions,
        compiled=flags.compiled,
    )
    lines = [shown(line) for line in lines_of(found)]
    return conclude(lines, {"attention": found}, device, flags.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
