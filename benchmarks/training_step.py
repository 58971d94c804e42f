"""Is our training step as fast as the official TRM's, at TRM's own shape?

`python -m benchmarks.training_step --official PATH`, a checkout of
github.com/SamsungSAILMontreal/TinyRecursiveModels with what it imports (einops, pydantic) at hand.

One step is a supervision step of 9 x 9 Sudoku with 81 + 16 positions: T = 3 recursions of n = 6
updates and one of the answer, 21 passes through two layers, 7 of them with a gradient; both losses,
AdamW over everything and the average of the weights. Ours is the preset `trm7m` and clips and
guards the gradient as well; theirs is `gpu_official`. Same float type, threads and batches, in
turns. Each is taken with its blocks compiled, too; what is required is of ours compiled, over each
of theirs. `--no-compiled` leaves that out.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .gpu_official import NAME, OfficialStep
from .gpu_recipes import OFFICIAL_SHAPE, official_flags
from .in_turns import in_turns, ratio, told
from .peer_scripts import Line, check_shared, conclude, peer_parser, shown, use_our_package

LEAST = {"cpu": {"eager": 0.97, "compiled": 0.97}, "cuda": {"eager": 2.0, "compiled": 1.2}}
"""{device: {the official form: its seconds over ours, at least}}"""
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16"}
"""Our name of a precision, and theirs."""
BATCHES = 2
Step = Callable[[int], object]


class CheckoutError(Exception):
    """The official checkout, or what it needs, cannot be imported."""


def measured(
    checkout: Path,
    device: torch.device,
    *,
    shape: Mapping[str, int],
    precision: str,
    repetitions: int,
    compiled: bool = False,
) -> dict[str, Any]:
    """Seconds of each form in each repetition, and the ratios.

    Of ours the last form is compared: compiled where that is asked for. Raises CheckoutError, and
    ImportError where what our own package needs is missing.
    """
    use_our_package()
    from reference_reasoner.engine.profiling.measured.machine import this_machine
    from reference_reasoner.engine.profiling.measured.passes import trainer
    from reference_reasoner.engine.seeding import set_determinism

    from .gpu_inside import task_of

    set_determinism("off")
    forms = ("eager", "compiled") if compiled else ("eager",)
    flags = official_flags(shape, device.type)
    flags += [f"--training.batch-size={shape['batch_size']}", f"--training.precision={precision}"]
    # all batches are there before the first step: workers would fetch more beside what is timed
    flags += ["--runtime.loader-workers=0"]
    ways: dict[str, Step] = {}
    numbers: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        for form in forms:
            task = task_of("trm7m", [*flags, f"--runtime.compile={form == 'compiled'}"])
            made = stack.enter_context(trainer(task, this_machine(task.config.runtime)))
            official = _official(checkout, shape, device, precision)
            if form == "compiled":
                official.compile()
            batches: list[dict[str, Tensor]] = [made.load() for _ in range(BATCHES)]
            ways[f"ours {form}"] = _on(batches, made.step)
            ways[f"official {form}"] = _on(batches, official)
            numbers["ours"] = sum(p.numel() for p in made.state.model.parameters())
            numbers["official"] = official.parameters()
        seconds = in_turns(ways, device, repetitions=repetitions)
    return {
        "code": NAME,
        "shape": dict(shape),
        "precision": precision,
        "parameters": numbers,
        "seconds": seconds,
        "of_ours": forms[-1],
        "official_over_ours": {
            form: ratio(seconds[f"official {form}"], seconds[f"ours {forms[-1]}"]) for form in forms
        },
    }


def _official(
    checkout: Path, shape: Mapping[str, int], device: torch.device, precision: str
) -> OfficialStep:
    try:
        return OfficialStep(checkout, shape, device, PRECISIONS[precision])
    except ImportError as error:
        raise CheckoutError(f"it cannot be imported: {error}") from error


def _on(batches: Sequence[dict[str, Tensor]], step: Callable[[dict[str, Tensor]], object]) -> Step:
    return lambda turn: step(batches[turn % len(batches)])


def judged(found: Mapping[str, Any], device: torch.device) -> list[Line]:
    """What is required of each form, and what came out."""
    shape, last = found["shape"], found["of_ours"]
    fastest = {name: f"{1e3 * min(each):,.1f} ms" for name, each in found["seconds"].items()}
    return [
        Line(
            claim=f"official TRM's training step, {form}, over ours, {last}; "
            f"{shape['width']} wide, batch {shape['batch_size']}, {found['precision']}",
            required=f">= {least:g}",
            measured=f"{told(found['official_over_ours'][form])}; fastest "
            f"{fastest[f'official {form}']} against {fastest[f'ours {last}']}",
            holds=found["official_over_ours"][form]["median"] >= least,
        )
        for form, least in LEAST[device.type].items()
        if form in found["official_over_ours"]
    ]


def main(argv: list[str]) -> int:
    """Measure, print, write; 1 where the requirement does not hold."""
    parser = peer_parser("training_step", __doc__)
    parser.add_argument(
        "--official", type=Path, required=True, metavar="PATH", help="the official checkout"
    )
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="default: 8")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="fp32", help="of both; default: fp32"
    )
    parser.add_argument("--compiled", action=argparse.BooleanOptionalAction, default=True)
    flags = parser.parse_args(argv)
    device = check_shared(parser, flags)
    if not (flags.official / "pretrain.py").is_file():
        parser.error(f"--official {flags.official}: there is no checkout of {NAME}: no pretrain.py")
    if flags.batch < 1:
        parser.error(f"--batch {flags.batch}: at least one puzzle")
    try:
        found = measured(
            flags.official,
            device,
            shape={**OFFICIAL_SHAPE, "batch_size": flags.batch},
            precision=flags.precision,
            repetitions=flags.repetitions,
            compiled=flags.compiled,
        )
    except CheckoutError as error:
        parser.error(f"--official {flags.official}: {error}")
    except ImportError as error:
        parser.error(f"our own package cannot be imported: {error}")
    return conclude(
        [shown(line) for line in judged(found, device)],
        {"training_step": found},
        device,
        flags.json,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
