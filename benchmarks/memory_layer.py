"""Is our memory layer faster than titans-pytorch's of the same depth, learning as it goes?

`python -m benchmarks.memory_layer`, with the package titans-pytorch installed. Causal layers of
384 numbers a token and 6 heads of 64, on 2 rows of 1,024 tokens in chunks of 64, float32: ours as
a preset would use it, its convolution of 4 taps included; theirs with a batch size of one chunk,
so that each chunk's gradients are taken at the weights that the chunks before it left (its
default takes all of them at the initial weights, which learns nothing), and without a
convolution. Forward is without a graph; backward is into the input and every parameter. Freed
memory is kept for both. Each is taken in its faster form, eager or compiled whole by torch.compile
(ours is C then), all in turns; compiling takes minutes, and `--no-compiled`
leaves it and the verdict out. The projections into keys, values and queries and out of the heads
are products that any memory has, and timed apart, as the library of ours' eager form computes them.
"""

import argparse
import importlib.util
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from .in_turns import in_turns, keep_freed_memory, ratio, told
from .native_parts import in_words, native_parts
from .peer_scripts import Line, check_shared, conclude, peer_parser, shown, use_our_package

PEER, NEEDS = "titans-pytorch", "titans_pytorch"
WIDTH, HEADS, CHUNK = 384, 6, 64
Read = Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is compared, and how much faster ours must be."""

    what: str
    depth: int
    forward: float
    both: float


ROWS = (
    Row(what="exact linear memory", depth=1, forward=2.3, both=1.7),
    Row(what="deep memory", depth=2, forward=2.0, both=1.4),
)


def ours(depth: int) -> nn.Module:
    """Our causal layer."""
    from reference_reasoner.reasoner.models.memory.config import MemoryConfig
    from reference_reasoner.reasoner.models.memory.neural_memory import NeuralMemory

    torch.manual_seed(0)
    config = MemoryConfig(heads=HEADS, depth=depth, features=2 * WIDTH // HEADS, chunk=CHUNK)
    return NeuralMemory(WIDTH, config, causal=True)


def theirs(depth: int) -> nn.Module:
    """titans-pytorch's layer, with weights of as many layers and as wide. Raises ImportError."""
    from titans_pytorch import MemoryMLP, NeuralMemory

    torch.manual_seed(0)
    head = WIDTH // HEADS
    return NeuralMemory(
        dim=WIDTH,
        chunk_size=CHUNK,
        batch_size=CHUNK,
        heads=HEADS,
        dim_head=head,
        model=MemoryMLP(head, depth=depth, expansion_factor=2.0),
    )


def forward(layer: nn.Module, x: Tensor, read: Read) -> Callable[[int], object]:
    """What one call without gradients is."""

    def call(_: int) -> object:
        with torch.no_grad():
            return read(layer, x)

    return call


def both(layer: nn.Module, x: Tensor, read: Read) -> Callable[[int], object]:
    """What one call and the gradients of its input and of all parameters are."""
    x = x.clone().requires_grad_()

    def call(_: int) -> object:
        layer.zero_grad(set_to_none=True)
        x.grad = None
        read(layer, x).square().sum().backward()
        return x.grad

    return call


def products(layer: nn.Module, x: Tensor) -> Callable[[int], object]:
    """What no memory of this width does without: into keys, values and queries, and out of heads.

    Both take as many numbers a token, so that x does for either.
    """

    def call(_: int) -> object:
        with torch.no_grad():
            return layer.qkv(x), layer.out(x)

    return call


def measured(
    row: Row, device: torch.device, *, rows: int, tokens: int, repetitions: int, compiled: bool
) -> dict[str, Any]:
    """Seconds of each form of both layers in each repetition, and ratios. Raises ImportError."""
    x = torch.randn(rows, tokens, WIDTH, generator=torch.Generator().manual_seed(1)).to(device)
    eager = {"ours": ours(row.depth).to(device), "theirs": theirs(row.depth).to(device)}
    reads: dict[str, Read] = {"ours": lambda m, x: m(x), "theirs": lambda m, x: m(x)[0]}
    layers = {(who, "eager"): layer for who, layer in eager.items()}
    if compiled:
        layers |= {(who, "compiled"): torch.compile(layer) for who, layer in eager.items()}
    found: dict[str, Any] = {"depth": row.depth, "rows": rows, "tokens": tokens, "kinds": {}}
    found["parameters"] = {
        who: sum(p.numel() for p in layer.parameters()) for who, layer in eager.items()
    }
    for kind, work in (("forward", forward), ("both", both)):
        ways = {
            f"{who} {form}": work(layer, x, reads[who]) for (who, form), layer in layers.items()
        }
        if kind == "forward":
            ways["products"] = products(eager["ours"], x)
        with native_parts() as parts:
            taken = in_turns(ways, device, repetitions=repetitions)
        found["kinds"][kind] = {**summary(taken), "native_seconds": dict(parts)}
    return found


def summary(seconds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The ratio of the best form of each, by the median, and that of both eager forms."""
    best = {
        who: min(
            (way for way in seconds if way.startswith(who)),
            key=lambda way: statistics.median(seconds[way]),
        )
        for who in ("ours", "theirs")
    }
    return {
        "seconds": dict(seconds),
        "best": best,
        "theirs_over_ours": ratio(seconds[best["theirs"]], seconds[best["ours"]]),
        "eager_theirs_over_ours": ratio(seconds["theirs eager"], seconds["ours eager"]),
    }


def judged(row: Row, found: Mapping[str, Any], *, compiled: bool) -> list[Line]:
    """What is required of the best forms; without compiled ones that is not known."""
    size = f"{found['rows']} x {found['tokens']:,} tokens"
    lines = []
    for kind, each in found["kinds"].items():
        least = {"forward": row.forward, "both": row.both}[kind]
        passes = {"forward": "forward", "both": "forward and backward"}[kind]
        what = f"{row.what}, {size}, {passes}: {PEER}'s time over ours"
        ratios = [("eager", each["eager_theirs_over_ours"], ("ours eager", "theirs eager"), None)]
        if compiled:
            forms = (each["best"]["ours"], each["best"]["theirs"])
            ratios.insert(0, ("best of eager and compiled", each["theirs_over_ours"], forms, least))
        for form, times, ways, asked in ratios:
            mine, other = (1e3 * min(each["seconds"][way]) for way in ways)
            lines.append(
                Line(
                    claim=f"{what}, {form}",
                    required="reported" if asked is None else f">= {asked:g}",
                    measured=f"{told(times)}; fastest {other:.0f} ms ({ways[1]}) against "
                    f"{mine:.0f} ms ({ways[0]})",
                    holds=None if asked is None else times["median"] >= asked,
                )
            )
        if each["native_seconds"]:
            lines.append(
                Line(
                    claim=f"{row.what}, {size}, {passes}: where ours' compiled time goes, medians",
                    required="reported",
                    measured=in_words(each["native_seconds"], each["seconds"]["ours compiled"]),
                    holds=None,
                )
            )
        if "products" in each["seconds"]:
            ways = each["best"]["ours"], "products"
            mine, alone = (1e3 * min(each["seconds"][way]) for way in ways)
            lines.append(
                Line(
                    claim=f"{row.what}, {size}, {passes}: the products into heads and out of them",
                    required="reported",
                    measured=f"fastest {alone:.1f} ms of ours' {mine:.1f} ms",
                    holds=None,
                )
            )
    return lines


def main(argv: list[str]) -> int:
    """Measure, print, write; 1 where a requirement does not hold."""
    parser = peer_parser("memory_layer", __doc__)
    parser.set_defaults(threads=2)
    parser.add_argument("--rows", type=int, default=2, metavar="N", help="of a batch; default: 2")
    parser.add_argument("--tokens", type=int, default=1024, metavar="N", help="default: 1024")
    parser.add_argument("--compiled", action=argparse.BooleanOptionalAction, default=True)
    flags = parser.parse_args(argv)
    device = check_shared(parser, flags)
    if min(flags.rows, flags.tokens) < 1:
        parser.error(f"--rows {flags.rows} --tokens {flags.tokens}: at least one of each")
    if importlib.util.find_spec(NEEDS) is None:
        parser.error(f"{PEER} is not installed: pip install {PEER}")
    use_our_package()
    keep_freed_memory()
    lines, figures = [], {}
    for row in ROWS:
        found = measured(
            row,
            device,
            rows=flags.rows,
            tokens=flags.tokens,
            repetitions=flags.repetitions,
            compiled=flags.compiled,
        )
        lines += [shown(line) for line in judged(row, found, compiled=flags.compiled)]
        figures[row.what] = found
    return conclude(lines, {"peer": f"{PEER} {version(PEER)}", "rows": figures}, device, flags.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
