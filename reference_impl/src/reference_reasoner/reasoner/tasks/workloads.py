"""What a reasoner is timed at: a puzzle at full depth and stopped early, or a whole sequence."""

import copy
import functools
from collections.abc import Callable

import torch
from torch import Tensor

from ...engine.training.device import blocks_of
from ...engine.training.task import Backend, Workload
from ..models.full_model import RecursiveReasoner
from ..models.serving.cuda_graph import captured
from ..models.serving.fused_block import fused
from ..models.serving.graphed_solving import GraphedReasoner

NEVER_SURE = 1.0
"""A threshold that no probability is above: no row leaves before its steps are used up."""
EARLY_STEPS = 4
"""Supervision steps of the workload `halting`: assumed, for untrained weights stop nowhere."""


def solving_workloads(reasoner: RecursiveReasoner, tokens: Tensor, name: str) -> list[Workload]:
    """`full_depth`, all supervision steps, and `halting`, the first of them where there are more.

    `tokens` int64 [1, T] is the puzzle. After each step the halting head is asked and its answer
    waited for, as when trained weights solve.
    """
    there = tokens.to(next(reasoner.parameters()).device)
    most = reasoner.config.halting.max_steps
    each = _steps_in_words(reasoner)

    @functools.cache
    def recorded(dtype: torch.dtype, compiler: Backend | None) -> GraphedReasoner:
        return GraphedReasoner(fixed_copy(fused(reasoner), dtype, compiler))

    def workload(identifier: str, steps: int, said: str) -> Workload:
        def run() -> object:
            return reasoner.solve(there, threshold=NEVER_SURE, max_steps=steps)

        def graphed(dtype: torch.dtype, compiler: Backend | None) -> Callable[[], object]:
            own = recorded(dtype, compiler)
            return lambda: own.solve(there, threshold=NEVER_SURE, max_steps=steps)

        said = f"{_example_in_words(reasoner, tokens, name)}, {said}"
        return Workload(name=identifier, description=said, run=run, graphed=graphed)

    found = [workload("full_depth", most, f"{most} {each}")]
    if most > EARLY_STEPS:
        said = f"{EARLY_STEPS} of {most} {each}, stopped by count: the weights are untrained"
        found.append(workload("halting", EARLY_STEPS, said))
    return found


def prefill_workloads(reasoner: RecursiveReasoner, tokens: Tensor, name: str) -> list[Workload]:
    """`prefill`: all supervision steps over the whole sequence `tokens`, int64 [1, T]."""
    there = tokens.to(next(reasoner.parameters()).device)
    most = reasoner.config.halting.max_steps

    def read(model: RecursiveReasoner) -> Tensor:
        *_, last = model.at_depth(there, most)
        return last.logits

    def graphed(dtype: torch.dtype, compiler: Backend | None) -> Callable[[], object]:
        own, kept = fixed_copy(reasoner, dtype, compiler), list[Tensor]()

        def run() -> None:
            kept[:] = [read(own)]

        return captured(run)

    said = f"{_example_in_words(reasoner, tokens, name)}, {most} {_steps_in_words(reasoner)}"
    return [
        Workload(
            name="prefill",
            description=said,
            run=lambda: read(reasoner),
            compiles=there.is_cuda,  # elsewhere a block would be unrolled over all chunks
            graphed=graphed,
        )
    ]


def fixed_copy(
    reasoner: RecursiveReasoner, dtype: torch.dtype, compiler: Backend | None
) -> RecursiveReasoner:
    """A copy with such weights, in whose place nothing else will be, and each block compiled."""
    own = copy.deepcopy(reasoner).to(dtype)
    if compiler is not None:
        for block in blocks_of(own):
            block.compile(dynamic=False, backend=compiler)
    return own


def _example_in_words(reasoner: RecursiveReasoner, tokens: Tensor, name: str) -> str:
    persistent = reasoner.config.persistent_tokens
    more = f" + {persistent} persistent ones" if persistent else ""
    return f"{name}, 1 example of {tokens.shape[1]} tokens{more}"


def _steps_in_words(reasoner: RecursiveReasoner) -> str:
    passes, blocks = reasoner.config.recursion.applications, reasoner.config.backbone.layers
    return (
        f"supervision steps of {passes} passes through {blocks} block{'' if blocks == 1 else 's'}"
    )
