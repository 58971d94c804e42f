"""Token by token at one launch a token: a step of `decoding`, recorded as a CUDA graph.

B batch, N tokens, V vocabulary. A step launches thousands of small kernels; at a small batch the
GPU is done with each before the host has launched the next. A recording launches them together,
and repeats whatever Python decided when it was made. A step decides by its position alone, and by
that only whether a chunk of the deep memory begins, where weights freeze: freezing is a recording
of its own, and the host, which counts tokens, says when. It also counts the room that is left: a
recording looks at no capacity.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..attention.attention import Place
from ..block_cache import BlockCache
from ..full_model import RecursiveReasoner
from ..memory.neural_memory import MemoryCache
from ..memory.sequential import freeze
from ..memory.state import DeepState, Position
from ..titans_mag import MagBlock
from .cuda_graph import Capture, captured
from .decoding import BlockStep, DecodeState, causal_blocks, step


class GraphedDecoder:
    """`decoding.step` on and on, from a state that `prefill` gave and that is the decoder's now.

    Weights are read where they were: values that are written into them count, new tensors (as
    `model.to` may bring) do not. The precision is that of the recording, too, whatever autocast
    surrounds a later `step`. Recording inside of autocast is refused: its casts of the weights
    are freed when it ends, and the graph would go on reading them. For bfloat16, cast the model
    before `prefill` (`model.to(torch.bfloat16)`); the memory stays in float32.

    `block_step` may be `MagBlock.step` compiled, by `torch.compile(MagBlock.step, dynamic=False)`:
    a graph saves the host's time between kernels, a compiler the kernels themselves. It compiles
    once, as all blocks and passes are alike, and never sees weights freeze: of two tensors that
    it writes, one with the other's old values, inductor (2.13) gave both the new ones. Without
    it the kernels are `step`'s own, and so are the results, to the bit.

    Raises RuntimeError for a model on another device than a GPU, unless `capture` is given, and
    inside of autocast; ValueError as `step` does, here already where no token fits.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: RecursiveReasoner,
        state: DecodeState,
        *,
        capture: Capture = captured,
        block_step: BlockStep = MagBlock.step,
    ) -> None:
        keys = state.caches[0].attention.all_keys
        if capture is captured and not keys.is_cuda:
            raise RuntimeError(
                f"a CUDA graph needs a CUDA device, and the state is on {keys.device}"
            )
        if torch.is_autocast_enabled(keys.device.type):
            raise RuntimeError(
                "a recording would outlive autocast's casts of the weights: cast the model "
                "itself, and record outside of autocast"
            )
        self._model, self._given = model, state
        self._attention = causal_blocks(model)[0].attention
        self._block_step = block_step
        # the host looks at the room; a compiler would compile anew for each
        self._caches = tuple(_with_room(each, 1) for each in state.caches)
        written = [each.memory for each in state.caches if isinstance(each.memory, MemoryCache)]
        memories = [each.state for each in written]
        self._frozen = [each for each in memories if isinstance(each, DeepState)]
        self._token = torch.zeros(len(keys), dtype=torch.int64, device=keys.device)
        self.position = state.position
        """Tokens so far, persistent ones not counted."""
        with _undisturbed(_tensors(state)):
            # refuses what cannot be decoded before anything is recorded
            self._logits = step(model, self._token, state)[0].clone()
            self._run = capture(self._step)
            self._begin_chunk = capture(self._freeze) if self._frozen else None

    @property
    def state(self) -> DecodeState:
        """After the tokens so far, for `decoding.step`; the decoder is then of no more use."""
        return DecodeState(tuple(map(self._now, self._given.caches)), self.position)

    @torch.no_grad()
    def step(self, token: Tensor) -> Tensor:
        """Replay the decoding graph for token int64 [B]: logits [B, V], overwritten by the next.

        Raises ValueError for tokens of another shape or dtype, and without a window where the
        capacity is used up.
        """
        if token.shape != self._token.shape or token.dtype != torch.int64:
            raise ValueError(
                f"one token int64 for each of {len(self._token)} rows is needed, "
                f"got {token.dtype} {list(token.shape)}"
            )
        self._attention.check_room(self._now(self._given.caches[0]).attention)
        self._token.copy_(token)
        if self._begin_chunk and self.position % self._model.config.backbone.memory.chunk == 0:
            self._begin_chunk()
        self._run()
        self.position += 1
        return self._logits

    def greedy(self, token: Tensor, count: int) -> Tensor:
        """Decode greedily from token int64 [B]: the next `count` tokens, int64 [B, N].

        The host waits for none of them. Raises ValueError as `step` does.
        """
        chosen = [token]
        for _ in range(count):
            chosen.append(self.step(chosen[-1]).argmax(-1))
        return torch.stack(chosen, 1)[:, 1:]

    def _step(self) -> None:
        """From and into the same tensors in every call."""
        state = DecodeState(self._caches, self.position)
        logits, _ = step(self._model, self._token, state, block_step=self._advance)
        self._logits.copy_(logits)

    def _advance(
        self, block: MagBlock, x: Tensor, cache: BlockCache, position: Position, place: Place | None
    ) -> tuple[Tensor, BlockCache]:
        """One block; no token begins a chunk for it."""
        return self._block_step(block, x, cache, None, place)

    def _freeze(self) -> None:
        for each in self._frozen:
            freeze(each)

    def _now(self, cache: BlockCache) -> BlockCache:
        """The cache with the room that is left; its tensors are up to date anyway."""
        taken = self.position - self._given.position
        return _with_room(cache, max(0, cache.attention.room - taken))


def _with_room(cache: BlockCache, room: int) -> BlockCache:
    return cache._replace(attention=cache.attention._replace(room=room))


def _tensors(state: DecodeState) -> list[Tensor]:
    """All tensors that a recorded decoding step writes into."""
    found: list[Tensor] = []
    for attention, memory in state.caches:
        found += [attention.all_keys, attention.all_values, attention.visible, attention.seen]
        if memory is not None:
            found += [*memory.state, memory.tail]
    return found


@contextmanager
def _undisturbed(tensors: list[Tensor]) -> Iterator[None]:
    """Give the tensors their values back: a capture's warm-up runs count as tokens, too."""
    before = [each.clone() for each in tensors]
    try:
        yield
    finally:
        for each, values in zip(tensors, before, strict=True):
            each.copy_(values)
