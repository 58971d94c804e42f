"""Is our supervision step as fast as that of the package tiny-recursive-model, at equal size?

`python -m benchmarks.supervision_step`, with tiny-recursive-model and x-transformers installed.
One step of 9 x 9 Sudoku with 81 + 16 positions: T = 3 recursions of n = 6 updates and one of the
answer, both losses, backward and AdamW. Ours is the preset `trm7m` or `trm7m_mixing`, which also
clips and guards the gradient and averages the weights; theirs is its class `TinyRecursiveModel`
around the network that its README uses (an encoder of x-transformers with rotary positions, or its
mixer), which does none of that. float32, same batches, in turns. Each is taken in its faster form,
eager or with what it repeats compiled; `--no-compiled` leaves that out.
"""

import argparse
import contextlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from .in_turns import in_turns, told
from .memory_layer import summary
from .peer_scripts import Line, check_shared, conclude, peer_parser, shown, use_our_package

PEER = "tiny-recursive-model"
NEEDS = ("tiny_recursive_model", "x_transformers")
CELLS, REGISTERS, VOCABULARY = 81, 16, 11
BATCHES = 2
PRESETS = {"attention": "trm7m", "mixing over the positions": "trm7m_mixing"}
"""{how positions are mixed: our preset}"""
Batch = Mapping[str, Tensor]
Step = Callable[[Batch], object]


def theirs(mixing: str, width: int) -> nn.Module:
    """The package's model, of two layers as wide as ours. Raises ImportError."""
    from tiny_recursive_model import MLPMixer1D, TinyRecursiveModel
    from x_transformers import Encoder

    torch.manual_seed(0)
    network = (
        Encoder(dim=width, depth=2, heads=8, rotary_pos_emb=True)
        if mixing == "attention"
        # as many parameters as ours have; its own expansions would give a quarter of them
        else MLPMixer1D(
            dim=width,
            depth=2,
            seq_len=CELLS + REGISTERS,
            expansion_factor=1.5,
            expansion_factor_token=4.5,
        )
    )
    return TinyRecursiveModel(
        dim=width, num_tokens=VOCABULARY, network=network, num_register_tokens=REGISTERS
    )


class TheirStep:
    """One optimizer step at a time; states live on as its own trainer lets them."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1.0)
        self.states: tuple[Tensor, Tensor] = model.get_initial()

    def __call__(self, batch: Batch) -> None:
        """A step on int64 tokens and labels, [B, 81] each."""
        loss, _, *states, _, _ = self.model(batch["tokens"], *self.states, labels=batch["labels"])
        (loss / len(batch["tokens"])).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.states = (states[0], states[1])


def measured(
    mixing: str, device: torch.device, *, width: int, batch: int, repetitions: int, compiled: bool
) -> dict[str, Any]:
    """Seconds of each form of both in each repetition, and the ratios. Raises ImportError."""
    from reference_reasoner.engine.profiling.measured.machine import this_machine
    from reference_reasoner.engine.profiling.measured.passes import trainer

    from .gpu_inside import task_of

    flags = [f"--model.backbone.width={width}", f"--training.batch-size={batch}"]
    flags += ["--training.accumulation-steps=1", "--training.precision=fp32"]
    flags += [f"--runtime.device={device.type}", "--runtime.determinism=off"]
    flags += ["--runtime.loader-workers=0"]  # none beside what is timed
    flags += [f"--runtime.threads={torch.get_num_threads()}"]
    ways: dict[str, Callable[[int], object]] = {}
    numbers = {}
    with contextlib.ExitStack() as stack:
        for form in ("eager", "compiled") if compiled else ("eager",):
            task = task_of(PRESETS[mixing], [*flags, f"--runtime.compile={form == 'compiled'}"])
            made = stack.enter_context(trainer(task, this_machine(task.config.runtime)))
            peer = theirs(mixing, width).to(device)
            if form == "compiled":
                peer.network.compile(dynamic=False)
            batches = [made.load() for _ in range(BATCHES)]
            ways[f"ours {form}"] = on(batches, made.step)
            ways[f"theirs {form}"] = on(batches, TheirStep(peer))
            numbers = {
                "ours": sum(p.numel() for p in made.state.model.parameters()),
                "theirs": sum(p.numel() for p in peer.parameters()),
            }
        seconds = in_turns(ways, device, repetitions=repetitions)
    return {"width": width, "batch": batch, "parameters": numbers, **summary(seconds)}


def on(batches: Sequence[Batch], step: Step) -> Callable[[int], object]:
    """The step of a turn, on one of the batches."""
    return lambda turn: step(batches[turn % len(batches)])


def line_of(mixing: str, found: Mapping[str, Any]) -> Line:
    """What came out; nothing is required."""
    seconds, best = found["seconds"], found["best"]
    mine, other = (1e3 * min(seconds[best[who]]) for who in ("ours", "theirs"))
    sizes = found["parameters"]
    return Line(
        claim=f"{PEER}'s supervision step over ours, {mixing}; {found['width']} wide, batch "
        f"{found['batch']}, fp32, {sizes['theirs'] / 1e6:.1f} M parameters against "
        f"{sizes['ours'] / 1e6:.1f} M",
        required="reported",
        measured=f"{told(found['theirs_over_ours'])}; fastest {other:,.0f} ms ({best['theirs']}) "
        f"against {mine:,.0f} ms ({best['ours']})",
        holds=None,
    )


def main(argv: list[str]) -> int:
    """Measure, print, write."""
    parser = peer_parser("supervision_step", __doc__)
    parser.add_argument("--width", type=int, default=512, metavar="N", help="default: 512")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="default: 8")
    parser.add_argument("--compiled", action=argparse.BooleanOptionalAction, default=True)
    flags = parser.parse_args(argv)
    device = check_shared(parser, flags)
    if flags.batch < 1:
        parser.error(f"--batch {flags.batch}: at least one puzzle")
    if flags.width < 1 or flags.width % 16:
        parser.error(f"--width {flags.width}: a multiple of 16, as there are 8 heads")
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(f"not installed: {', '.join(missing)}: pip install {PEER}")
    use_our_package()
    found = {
        mixing: measured(
            mixing,
            device,
            width=flags.width,
            batch=flags.batch,
            repetitions=flags.repetitions,
            compiled=flags.compiled,
        )
        for mixing in PRESETS
    }
    lines = [shown(line_of(mixing, each)) for mixing, each in found.items()]
    figures = {"peer": f"{PEER} {version(PEER)}", "rows": found}
    return conclude(lines, figures, device, flags.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
