"""The settings that each step of a run was really trained with.

An extension (`train --resume --extend-to`) changes the number of steps, and with it the learning
rate, from the step on at which it was asked for; run.json lists these in `trajectories`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ..config.run_config import RunConfig

ConfigT = TypeVar("ConfigT", bound=RunConfig)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Steps `from_step + 1` to `to_step`, trained as part of a run of `steps` steps."""

    from_step: int
    to_step: int
    steps: int


def stretches(facts: Mapping[str, Any], until: int) -> list[Stretch]:
    """The stretches of the run with the run.json `facts`, from step 0 up to step `until`."""
    trajectories = facts["trajectories"]
    begins = [0, *(each["from_step"] for each in trajectories[1:])]
    ends = [*begins[1:], until]
    return [
        Stretch(from_step=begin, to_step=min(end, until), steps=each["steps"])
        for each, begin, end in zip(trajectories, begins, ends, strict=True)
        if begin < until
    ]


def with_steps(config: ConfigT, steps: int) -> ConfigT:
    """`config` for a run of `steps` steps."""
    return replace(config, training=replace(config.training, steps=steps))
