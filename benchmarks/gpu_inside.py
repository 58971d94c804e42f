"""What a benchmark asks inside the project's own Python: a task from a preset and flags; plans.

`python -m benchmarks.gpu_inside plan` reads {name: {"preset", "flags"}} from standard input and
prints {name: counts of one puzzle in one step}; `weights RUN PREFIX` writes the averaged weights of
a run's newest checkpoint as float16 in files that are small enough to travel, and prints their
names.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from reference_reasoner.engine.config.sources import Sourced
from reference_reasoner.engine.profiling.counted.quantities import exact_quantities
from reference_reasoner.engine.training.checkpoint import load_weights
from reference_reasoner.engine.training.task import Task
from reference_reasoner.engine.training.trained_run import open_run

from .project_of_reference import REFERENCE

MOST_BYTES = 15 * 2**20
"""Of one file of weights."""


def task_of(preset: str, flags: Sequence[str]) -> Task[Any]:
    """The task as `train --preset PRESET FLAGS` makes it."""
    kind = REFERENCE.task_type(REFERENCE.task_of_preset(preset))
    sourced = Sourced(config=kind.config_type()).with_preset(kind.presets[preset](), preset)
    return kind(sourced.with_flags(flags, ()).config)


def plan(preset: str, flags: Sequence[str]) -> dict[str, Any]:
    """What one puzzle costs in one step, and what the model keeps on the device."""
    task = task_of(preset, flags)
    counted = exact_quantities(task).budgeted()
    reasoner, training = task.config.model, task.config.training
    positions = reasoner.persistent_tokens + task.config.data.cells
    return {
        "parameters": counted["parameters"],
        "passes": reasoner.recursion.applications,
        "passes_with_gradient": reasoner.recursion.latent_steps + 1,
        "training_flops_per_puzzle": counted["training_flops_per_example"],
        "forward_flops_per_puzzle": counted["forward_flops_per_example"],
        "activation_bytes_per_puzzle": counted["saved_activation_bytes_per_example"],
        "state_bytes": counted["checkpoint_bytes"] + 4 * counted["parameters"],
        "carry_bytes_per_puzzle": 2 * 4 * positions * reasoner.backbone.width,
        "batch_size": training.batch_size,
        "supervision_steps": reasoner.halting.max_steps,
    }


def write_weights(run: str, prefix: Path) -> list[str]:
    """Write the weights in parts, and return their paths."""
    tensors, _ = load_weights(open_run(REFERENCE, run).run_dir, "last")
    parts: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for name, value in tensors.items():
        half = value.half().contiguous() if value.is_floating_point() else value
        if parts[-1] and size + half.nbytes > MOST_BYTES:
            parts.append({})
            size = 0
        parts[-1][name] = half
        size += half.nbytes
    paths = [f"{prefix}-{number}.safetensors" for number in range(1, len(parts) + 1)]
    for path, part in zip(paths, parts, strict=True):
        safetensors.torch.save_file(part, path)
    return paths


def main(argv: Sequence[str]) -> int:
    """Answer one question, as JSON in the last line."""
    if argv[0] == "plan":
        asked = json.load(sys.stdin)
        answer: Any = {name: plan(each["preset"], each["flags"]) for name, each in asked.items()}
    else:
        answer = write_weights(argv[1], Path(argv[2]))
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
