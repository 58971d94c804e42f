"""What each model is trained with in minutes instead of days, and why.

The presets are those of the papers: batch 768, 2,000 steps of warm-up, learning rate 1e-4 and
21 passes a step are for 1,000 puzzles and a day. Minutes buy some ten thousand steps, so
everything that the presets spend on not learning a small set by heart is given up:

- Data: tens of thousands of puzzles, each after a new symmetry. Weight decay stays at 1: on 6 x 6
  it was worth 47 points over 0.1 after 1,500 steps (docs/results.md), so it is no matter of
  learning by heart.
- Passes: n = 2, T = 2 instead of n = 6, T = 3. A pass with a gradient costs three times one
  without, so a step costs (3 + 3 * 3) / (14 + 7 * 3) = 0.34 of TRM's. TRM's ablation has this
  point at 73.7 against 87.4 % after a full training; the bet is that 2.9 times the steps matter
  more in minutes. `default` learned 6 x 6 with n = 1, T = 1. Depth comes back in evaluation: 16
  supervision steps of 6 passes of 2 layers are 192 layers.
- Batch 384: half of 768, twice the updates. Smaller ones leave the GPU waiting for kernel launches
  (a step of 6 passes has about a thousand).
- Learning rate 4e-4 (3e-4 at width 768) after 200 steps: between TRM's 1e-4 and `default`'s 1e-3
  at a sixth of the width.
- Constant learning rate and averaged weights with decay 0.998: a horizon of 500 steps, so that any
  step is a good one to stop at, and the initial weights are gone after 3,000.
- Blocks are compiled where the steps that are timed first say that it pays.
- `runtime.determinism off`: TF32 in evaluation, and no slow repeatable kernels.
- No checkpoint but the one at the stop: it holds the carry, up to 0.2 GB here. Should a run be
  killed, the best weights of the last evaluation are on the disk.

One thing is the same for all models: data, batch, passes and schedule; so the comparison is of the
networks. `--flags` changes any of it for all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

ANNEALED_SHARE = 0.85
"""Of a training's seconds, those that steps take: the rest starts, scores and saves."""
MANY_STEPS = 10_000_000
"""More than any deadline allows: the deadline ends a run."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One model's training, but for data, device and how long."""

    preset: str
    batch_size: int = 384
    """Puzzles a step."""
    latent_steps: int = 2
    """n, updates of the latent before one of the answer."""
    recursions: int = 2
    """T, of which the last one has a gradient."""
    learning_rate: float = 4e-4
    compiles: bool = True
    """Whether its blocks compile in seconds, forwards and backwards; with memory in a minute."""
    more: Sequence[str] = ()
    """Flags that come last."""

    def flags(self) -> list[str]:
        """The flags of `train` after `--preset`."""
        values = {
            "training.steps": MANY_STEPS,
            "training.batch-size": self.batch_size,
            "training.accumulation-steps": 1,
            "training.activation-checkpointing": False,
            "training.learning-rate": self.learning_rate,
            "training.schedule": "constant",
            "training.warmup-steps": 200,
            "training.weight-decay": 1.0,
            "training.ema-decay": 0.998,
            "model.recursion.latent-steps": self.latent_steps,
            "model.recursion.recursions": self.recursions,
            "checkpoint.every-steps": MANY_STEPS,
            "tracking.log-every-steps": 20,
            "runtime.determinism": "off",
        }
        return [f"--{name}={value}" for name, value in values.items()] + list(self.more)


MODELS = {
    "trm7m_mixing": Recipe(preset="trm7m_mixing"),
    "trm7m": Recipe(preset="trm7m"),
    "grid25m": Recipe(preset="grid25m", learning_rate=3e-4, compiles=False),
}
"""{name: recipe}, in the order in which they run. `trm7m_mixing` is TRM's best form on Sudoku."""
FAVOURITE = "trm7m_mixing"
"""What the second piece trains where neither a first piece nor `--favour` says otherwise."""

OFFICIAL_SHAPE = {"batch_size": 768, "H_cycles": 3, "L_cycles": 6, "L_layers": 2, "width": 512}
"""The official code's own shape, which is `trm7m`'s: full passes, no accumulation."""

SMALL = {
    "training.batch-size": 8,
    "training.warmup-steps": 2,
    "training.precision": "fp32",
    "model.backbone.width": 32,
    "model.backbone.heads": 2,
    "model.backbone.hidden-width": 64,
    "model.recursion.latent-steps": 1,
    "model.recursion.recursions": 2,
    "model.halting.max-steps": 2,
    "tracking.log-every-steps": 5,
}
"""What a rehearsal on a CPU makes of every recipe."""
SMALL_MEMORY = {"model.backbone.memory.heads": 2, "model.backbone.memory.features": 16}


def rehearsed(recipe: Recipe) -> Recipe:
    """The recipe with a network and a batch that a CPU takes in milliseconds."""
    values = SMALL | (SMALL_MEMORY if recipe.preset == "grid25m" else {})
    more = [*recipe.more, *(f"--{name}={value}" for name, value in values.items())]
    return replace(recipe, more=more)


def annealed(times: Mapping[str, float], seconds: float) -> dict[str, Any]:
    """A schedule that ends with the seconds, by the steps that were timed: flat, then down to 0."""
    left_s = max(0.0, seconds - times["first_steps_s"]) * ANNEALED_SHARE
    return {
        "training.steps": max(1, round(1e3 * left_s / times["median_ms"])),
        "training.schedule": "wsd",
        "training.decay-fraction": 0.3,
    }


def official_flags(shape: Mapping[str, int], device: str) -> list[str]:
    """`trm7m` at the official shape: its preset, whole batches, AdamW, nothing repeatable."""
    values = {
        "training.accumulation-steps": 1,
        "model.recursion.latent-steps": shape["L_cycles"],
        "model.recursion.recursions": shape["H_cycles"],
        "model.backbone.width": shape["width"],
        "model.backbone.heads": max(1, shape["width"] // 64),
        "model.backbone.hidden-width": -(-round(4 * shape["width"] * 2 / 3) // 256) * 256,
        "runtime.device": device,
        "runtime.determinism": "off",
    }
    return [f"--{name}={value}" for name, value in values.items()]
