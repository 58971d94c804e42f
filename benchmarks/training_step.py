"""Is our training step as fast as the official TRM's, at TRM's own shape?

`python -m benchmarks.training_step --official PATH`, a checkout of
github.com/SamsungSAILMontreal/TinyRecursiveModels with what it imports (einops, pydantic) at hand.

One step is a supervision step of 9 x 9 Sudoku with 81 + 16 positions: T = 3 recursions of n = 6
updates and one of the answer, 21 passes through two layers, 7 of them with a gradient; both losses,
AdamW over everything and the average of the weights. Ours is the preset `trm7m` and clips and
guards the gradient as well; theirs is `gpu_official`. Same float type, threads and batches, in
turns; neither is compiled.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .gpu_official import NAME, OfficialStep
from .gpu_recipes import OFFICIAL_SHAPE, official_flags
from .in_turns import in_turns, ratio, told
from .peer_scripts import Line, check_shared, conclude, peer_parser, shown, use_our_package

LEAST = {"cpu": 0.97, "cuda": 2.0}
"""Official seconds over ours, by device."""
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16"}
"""Our name of a precision, and theirs."""
BATCHES = 2
Step = Callable[[int], object]


def measured(
    checkout: Path,
    device: torch.device,
    *,
    shape: Mapping[str, int],
    precision: str,
    repetitions: int,
) -> dict[str, Any]:
    """Seconds of both in each repetition, and their ratio. Raises ImportError as OfficialStep."""
    use_our_package()
    from reference_reasoner.profiling.machine import this_machine
    from reference_reasoner.profiling.training_step import trainer
    from reference_reasoner.seeding import set_determinism

    from .gpu_inside import task_of

    set_determinism("off")
    official = OfficialStep(checkout, shape, device, PRECISIONS[precision])
    flags = official_flags(shape, device.type)
    flags += [f"--training.batch-size={shape['batch_size']}", f"--training.precision={precision}"]
    task = task_of("trm7m", flags)
    with trainer(task, this_machine(task.config.runtime)) as made:
        batches: list[dict[str, Tensor]] = [made.load() for _ in range(BATCHES)]
        ways: dict[str, Step] = {
            "ours": lambda turn: made.step(batches[turn % BATCHES]),
            "official": lambda turn: official(batches[turn % BATCHES]),
        }
        seconds = in_turns(ways, device, repetitions=repetitions)
        ours = sum(p.numel() for p in made.state.model.parameters())
    return {
        "code": NAME,
        "shape": dict(shape),
        "precision": precision,
        "parameters": {"ours": ours, "official": official.parameters()},
        "seconds": seconds,
        "official_over_ours": ratio(seconds["official"], seconds["ours"]),
    }


def judged(found: Mapping[str, Any], device: torch.device) -> Line:
    """What is required, and what came out."""
    shape, least = found["shape"], LEAST[device.type]
    seconds = {name: min(each) for name, each in found["seconds"].items()}
    return Line(
        claim=f"official TRM's training step over ours, {shape['width']} wide, batch "
        f"{shape['batch_size']}, {found['precision']}",
        required=f">= {least:g}",
        measured=f"{told(found['official_over_ours'])}; fastest {seconds['official']:.2f} s "
        f"against {seconds['ours']:.2f} s",
        holds=found["official_over_ours"]["median"] >= least,
    )


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
    flags = parser.parse_args(argv)
    device = check_shared(parser, flags)
    if not (flags.official / "pretrain.py").is_file():
        parser.error(f"--official {flags.official}: there is no checkout of {NAME}")
    if flags.batch < 1:
        parser.error(f"--batch {flags.batch}: at least one puzzle")
    try:
        found = measured(
            flags.official,
            device,
            shape={**OFFICIAL_SHAPE, "batch_size": flags.batch},
            precision=flags.precision,
            repetitions=flags.repetitions,
        )
    except ImportError as error:
        parser.error(f"--official {flags.official}: it cannot be imported: {error}")
    return conclude([shown(judged(found, device))], {"training_step": found}, device, flags.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
