"""A grid's reasoner whose supervision step is one CUDA graph, for puzzles a few at a time.

B batch, P persistent tokens, T tokens, W width, V vocabulary. At batch 1 a step is a thousand
kernels of a few microseconds each; launched one by one, the GPU waits for the host most of the
time. Halting is still looked at once a step.
"""

import torch
from torch import Tensor

from ..act_head import Halted
from ..full_model import RecursiveReasoner, SolvingState
from .cuda_graph import Capture, captured


class GraphedReasoner:
    """`RecursiveReasoner.solve` by CUDA graphs, one for each batch size that it meets.

    Batches shrink in powers of two, so there are few. The model is in eval mode, on a GPU, and
    changes no more: neither its weights' places nor their dtype, which is what it works in. Its
    blocks may be compiled, and `fused_block.fused` makes of it one that launches fewer kernels.
    """

    def __init__(self, model: RecursiveReasoner, *, capture: Capture = captured) -> None:
        self._model, self._capture = model, capture
        self._steps: dict[torch.Size, _RecordedStep] = {}

    @torch.no_grad()
    def solve(self, tokens: Tensor, *, threshold: float, max_steps: int) -> Halted:
        """`RecursiveReasoner.solve`; `tokens` int64 [B, T].

        Raises ValueError inside autocast, which frees at its end the casts that a graph reads.
        """
        if torch.is_autocast_enabled(tokens.device.type):
            raise ValueError("a graph cannot be recorded inside autocast: cast the weights instead")
        return self._model.solve(
            tokens,
            threshold=threshold,
            max_steps=max_steps,
            compaction="powers_of_two",
            step=self._step,
        )

    def _step(self, state: SolvingState) -> tuple[SolvingState, Tensor, Tensor]:
        shape = state[0].shape
        if shape not in self._steps:
            self._steps[shape] = _RecordedStep(self._model, state, self._capture)
        return self._steps[shape].take(state)


class _RecordedStep:
    """A CUDA graph of one supervision step of one batch size, with tensors of its own."""

    def __init__(self, model: RecursiveReasoner, like: SolvingState, capture: Capture) -> None:
        self.state: SolvingState = tuple(each.contiguous().clone() for each in like)  # type: ignore[assignment]
        _, self.logits, self.halting = model.solving_step(self.state)

        def run() -> None:
            (_, *states), logits, halting = model.solving_step(self.state)
            for own, fresh in zip(
                (*self.state[1:], self.logits, self.halting),
                (*states, logits, halting),
                strict=True,
            ):
                own.copy_(fresh)

        self._replay = capture(run)

    def take(self, state: SolvingState) -> tuple[SolvingState, Tensor, Tensor]:
        """The state after, logits [B, T, V] and halting logits [B], until the next step."""
        for own, given in zip(self.state, state, strict=True):
            if own is not given:
                own.copy_(given)
        self._replay()
        return self.state, self.logits, self.halting
