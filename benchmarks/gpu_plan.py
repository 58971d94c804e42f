"""What each minute buys, computed before any is spent.

FLOPs and bytes are counted by the project's own counter on tensors without memory, for the flags
that are trained with; the speed is assumed: 35 % of 800 TFLOP/s, what an H100 or H200 reaches in
large bf16 products. A run of small kernels that is not compiled may get half of it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .gpu_project import Project
from .gpu_recipes import OFFICIAL_SHAPE, Recipe

PEAK_FLOPS_PER_S = 800e12
SHARE = 0.35
EVALUATED_PUZZLES = 200
"""Validation puzzles, scored twice (raw and averaged weights) at an evaluation."""
EVALUATION_FLOPS_PER_S = SHARE * PEAK_FLOPS_PER_S / 2
"""Evaluation runs in TF32, of which the device does half as many."""


def counted(project: Project, recipes: Mapping[str, Recipe], more: Sequence[str]) -> dict[str, Any]:
    """{name: what one puzzle costs in one step} for each recipe. Raises PieceError."""
    asked = {
        name: {"preset": recipe.preset, "flags": [*recipe.flags(), *more]}
        for name, recipe in recipes.items()
    }
    return project.answer("benchmarks.gpu_inside", "plan", asked=asked)


def prediction(costs: Mapping[str, Any], seconds: float) -> dict[str, float]:
    """What so many seconds of training should give."""
    flops = costs["training_flops_per_puzzle"] * costs["batch_size"]
    step_s = flops / (SHARE * PEAK_FLOPS_PER_S)
    evaluation = costs["forward_flops_per_puzzle"] * costs["supervision_steps"]
    return {
        "seconds": seconds,
        "step_ms": 1e3 * step_s,
        "steps": seconds / step_s,
        "puzzle_steps": seconds / step_s * costs["batch_size"],
        "teraflops_per_step": flops / 1e12,
        "activation_gib": costs["activation_bytes_per_puzzle"] * costs["batch_size"] / 2**30,
        "carry_gib": costs["carry_bytes_per_puzzle"] * costs["batch_size"] / 2**30,
        "state_gib": costs["state_bytes"] / 2**30,
        "evaluation_s": 2 * EVALUATED_PUZZLES * evaluation / EVALUATION_FLOPS_PER_S,
    }


def lines(costs: Mapping[str, Any], stages: Sequence[tuple[str, str, float]]) -> Iterator[str]:
    """The plan for people: a line a stage (piece, model or what it is, seconds)."""
    yield f"At {SHARE:.0%} of {PEAK_FLOPS_PER_S / 1e12:.0f} TFLOP/s; activations are counted as"
    yield "fp32, of which bf16 keeps about half."
    total = sum(seconds for _, _, seconds in stages)
    for piece, what, seconds in stages:
        if what not in costs:
            yield f"{piece:<7} {seconds:5.0f} s  {what}"
            continue
        each = prediction(costs[what], seconds)
        yield (
            f"{piece:<7} {seconds:5.0f} s  {what}: {costs[what]['parameters'] / 1e6:.1f} M "
            f"parameters, {costs[what]['passes']} passes ({costs[what]['passes_with_gradient']} "
            f"with a gradient), {each['teraflops_per_step']:.2f} TFLOP a step of "
            f"{costs[what]['batch_size']} puzzles = {each['step_ms']:.1f} ms: "
            f"{each['steps']:,.0f} steps, {each['puzzle_steps'] / 1e6:.2f} M puzzle-steps; "
            f"{each['state_gib']:.2f} GiB of state, {each['carry_gib']:.2f} of carry, "
            f"{each['activation_gib']:.1f} of activations; an evaluation {each['evaluation_s']:.1f}"
            " s"
        )
    yield f"in all  {total:5.0f} s  ({total / 60:.1f} minutes of one device)"
    yield f"The official step is taken at {json.dumps(OFFICIAL_SHAPE)}."
