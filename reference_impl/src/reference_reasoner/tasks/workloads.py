"""What a grid's reasoner is timed at: a puzzle at full depth, and one that stops early."""

from torch import Tensor

from ..models.full_model import RecursiveReasoner
from ..training.task import Workload

NEVER_SURE = 1.0
"""A threshold that no probability is above: no row leaves before its steps are used up."""
EARLY_STEPS = 4
"""Supervision steps of the workload `halting`: assumed, for untrained weights stop nowhere."""


def solving_workloads(reasoner: RecursiveReasoner, tokens: Tensor, name: str) -> list[Workload]:
    """`full_depth`, all supervision steps, and `halting`, the first of them where there are more.

    `tokens` int64 [1, T] is the puzzle. After each step the halting head is asked and its answer
    waited for, as when trained weights solve.
    """
    config = reasoner.config
    there = tokens.to(next(reasoner.parameters()).device)
    most, passes = config.halting.max_steps, config.recursion.applications
    puzzle = f"{name}, 1 example of {tokens.shape[1]} tokens"
    if config.persistent_tokens:
        puzzle += f" + {config.persistent_tokens} persistent ones"
    blocks = config.backbone.layers
    each = (
        f"supervision steps of {passes} passes through {blocks} block{'' if blocks == 1 else 's'}"
    )

    def workload(identifier: str, steps: int, said: str) -> Workload:
        def run() -> object:
            return reasoner.solve(there, threshold=NEVER_SURE, max_steps=steps)

        return Workload(name=identifier, description=f"{puzzle}, {said}", run=run)

    found = [workload("full_depth", most, f"{most} {each}")]
    if most > EARLY_STEPS:
        said = f"{EARLY_STEPS} of {most} {each}, stopped by count: the weights are untrained"
        found.append(workload("halting", EARLY_STEPS, said))
    return found
