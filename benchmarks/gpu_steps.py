"""Step times, measured before minutes are spent: each recipe, and the official code beside ours.

`gpu_steps` reads its request from standard input, in the project's own Python, and prints JSON:

- `models`: each recipe's step, eager and with its blocks compiled, and the seconds that the first
  steps took; the peak memory of a step; and the parts that its batch had to be
  split into to fit.
- `official`: medians of the official TRM code's step and of ours of `trm7m` at the official shape,
  taken in turns on the same batches; or why not.

Raises no error for a recipe that fails: what failed stands in its place.
"""

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from reference_reasoner.engine.profiling.measured.machine import this_machine
from reference_reasoner.engine.profiling.measured.passes import Trainer, trainer
from reference_reasoner.engine.seeding import set_determinism, set_threads

from .gpu_inside import task_of
from .gpu_official import NAME, official_or_reason
from .in_turns import seconds_of

WARM_UP = 3
"""Steps before any is timed."""
BATCHES = 4
"""Batches that are made beforehand and used in turns, so that no step waits for data."""
SPLITS = (1, 2, 4, 8)
"""Micro-batches that are tried until a step fits into memory."""
OUT_OF_MEMORY = "out of memory"


def median_ms(
    steps: Mapping[str, Callable[[], object]], device: torch.device, seconds: float
) -> dict[str, dict[str, Any]]:
    """{name: median, fastest and number} of steps taken in turns for some seconds, warmed up."""
    for _ in range(WARM_UP):
        for step in steps.values():
            step()
    taken: dict[str, list[float]] = {name: [] for name in steps}
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or not taken[next(iter(taken))]:
        for name, step in steps.items():
            taken[name].append(1e3 * seconds_of(step, device))
    return {
        name: {"median_ms": statistics.median(ms), "fastest_ms": min(ms), "steps": len(ms)}
        for name, ms in taken.items()
    }


def batches_of(made: Trainer) -> Callable[[], dict[str, torch.Tensor]]:
    """A function that gives a few batches of the task, on its device, again and again."""
    batches = [made.load() for _ in range(BATCHES)]
    count = iter(range(2**62))
    return lambda: batches[next(count) % BATCHES]


def recipe_times(preset: str, flags: Sequence[str], seconds: float) -> dict[str, Any]:
    """Step times of one recipe, split as finely as memory asks for."""
    problem = "nothing was tried"
    for parts in SPLITS:
        try:
            found = _times(preset, [*flags, f"--training.accumulation-steps={parts}"], seconds)
        except Exception as error:  # of the libraries below: the piece goes on without it
            problem = f"{type(error).__name__}: {error}".splitlines()[0]
            if OUT_OF_MEMORY not in str(error).lower():
                return {"problem": problem}
        else:
            return {**found, "accumulation_steps": parts}
        finally:
            _free()
    return {"problem": problem}


def _times(preset: str, flags: Sequence[str], seconds: float) -> dict[str, Any]:
    task = task_of(preset, flags)
    machine = this_machine(task.config.runtime)
    with trainer(task, machine) as made:
        batch = batches_of(made)
        first = seconds_of(lambda: [made.step(batch()) for _ in range(WARM_UP)], machine.device)
        if machine.memory is not None:
            machine.memory.reset()
        found = median_ms({"step": lambda: made.step(batch())}, machine.device, seconds)["step"]
        # autocast's cache once lost the graph of weights that were first used under no_grad
        parameters = made.state.model.named_parameters()
        without = [name for name, p in parameters if p.requires_grad and p.grad is None]
        if without:
            raise RuntimeError(f"no gradient reaches {', '.join(without)}")
        peak = None if machine.memory is None else machine.memory.peak_mib()[0]
        numbers = sum(p.numel() for p in made.state.model.parameters())
    return {
        **found,
        "first_steps_s": first,
        "peak_allocated_mib": peak,
        "batch_size": task.config.training.batch_size,
        "parameters": numbers,
    }


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def beside_official(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Ours and the official step in turns; half the batch where both do not fit."""
    shape = dict(asked["shape"])
    problem = ""
    while shape["batch_size"] >= 8:
        try:
            return _in_turns_with_official(asked, shape)
        except Exception as error:  # as above
            problem = f"{type(error).__name__}: {error}".splitlines()[0]
            if OUT_OF_MEMORY not in str(error).lower():
                break
            shape["batch_size"] //= 2
        finally:
            _free()
    return {"skipped": f"skipped: {problem}"}


def _in_turns_with_official(asked: Mapping[str, Any], shape: Mapping[str, int]) -> dict[str, Any]:
    flags = [*asked["flags"], f"--training.batch-size={shape['batch_size']}"]
    task = task_of("trm7m", flags)
    machine = this_machine(task.config.runtime)
    official, reason = official_or_reason(asked["checkout"], shape, machine.device)
    if official is None:
        return {"skipped": reason}
    with trainer(task, machine) as made:
        batch, theirs = batches_of(made), batches_of(made)
        steps = {"ours": lambda: made.step(batch()), "official": lambda: official(theirs())}
        found = median_ms(steps, machine.device, asked["seconds"])
        ours = sum(p.numel() for p in made.state.model.parameters())
    return {
        "code": NAME,
        "shape": dict(shape),
        "parameters": {"ours": ours, "official": official.parameters()},
        **found,
        "official_over_ours": found["official"]["median_ms"] / found["ours"]["median_ms"],
        "mode": "eager, in turns on the same batches; AdamW in both",
    }


def main() -> int:
    """Answer the request on standard input."""
    asked = json.load(sys.stdin)
    set_threads(1)
    set_determinism("off")
    official = asked["official"] and beside_official(asked["official"])
    models = {}
    for name, each in asked["models"].items():
        models[name] = {"eager": recipe_times(each["preset"], each["flags"], asked["seconds"])}
        if each["compile"]:
            flags = [*each["flags"], "--runtime.compile=True"]
            models[name]["compiled"] = recipe_times(each["preset"], flags, asked["seconds"])
    each = next(iter(asked["models"].values()))
    machine = this_machine(task_of(each["preset"], each["flags"]).config.runtime)
    found = {"machine": machine.facts(), "models": models}
    print(json.dumps(found | ({"official": official} if official else {})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
