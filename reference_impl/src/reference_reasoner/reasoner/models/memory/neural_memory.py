"""Titans' long-term memory: weights that learn, while the model runs, to map keys to values.

B batch, P persistent tokens, T tokens, W width, H heads, D = W / H head width, K taps, N = B H
rows. Behrouz et al. 2025, Titans: Learning to Memorize at Test Time, section 3. What is learned
is a value that goes in and comes out, never a buffer.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..layers.initial_weights import truncated_normal
from ..layers.projection import Projection
from ..layers.short_convolution import ShortConvolution
from .config import MemoryConfig
from .gates import Gates, TokenGates
from .heads import Heads
from .native.whole_layer import LayerWeights, whole_layer
from .routes import heads_of, scan_is_apart, unit_heads
from .scan import Sequence, scan_memory
from .sequential import deep_step, linear_step, read_deep
from .sets import set_memory
from .state import DeepState, LinearState, Position, State
from .written import Written


class MemoryCache(NamedTuple):
    """Cache of the neural memory while decoding: its state after the tokens so far."""

    state: State
    tail: Tensor
    """[B, K - 1, 3 W]: the last projections, for the convolution."""


class NeuralMemory(nn.Module):
    """The neural memory: x [B, P + T, W] -> what it recalls for each token, [B, P + T, W].

    Keys, values and queries are projected, convolved and passed through SiLU; keys and queries
    have length 1 (Titans, section 4.4). A causal memory is written token after token; its
    persistent tokens are not written, and read the state that every document begins with. One
    that is not causal is written with all tokens at once and in no order, for grids. The width
    is a multiple of the heads, and only a causal one takes stale gradients: `BackboneConfig`
    refuses others.
    """

    def __init__(self, width: int, config: MemoryConfig, *, causal: bool) -> None:
        super().__init__()
        self.config = config
        self.causal = causal
        self.head_width = width // config.heads
        self.qkv = Projection(width, 3 * width, bias=False)
        self.convolution = ShortConvolution(3 * width, config.convolution)
        self.gates = TokenGates(
            width,
            heads=config.heads,
            momentum=config.momentum,
            forgetting=config.forgetting,
            inner=config.depth == 2,
        )
        self.norm = nn.Parameter(torch.ones(width))
        self.out = Projection(width, width, bias=False)
        shapes = [(self.head_width, self.head_width)]
        if config.depth == 2:
            shapes = [(self.head_width, config.features), (config.features, self.head_width)]
        self.initial = nn.ParameterList(
            [nn.Parameter(torch.empty(config.heads, *shape)) for shape in shapes]
        )
        self._initialise(width)

    def _initialise(self, width: int) -> None:
        for linear in (self.qkv, self.out):
            truncated_normal(linear.weight, std=width**-0.5)
        # a token then looks for what tokens like it have written
        query, key, _ = self.qkv.weight.detach().chunk(3)
        query.copy_(key)
        for weights in self.initial:
            truncated_normal(weights, std=weights.shape[1] ** -0.5)

    def forward(self, x: Tensor, *, prefix: int = 0, documents: Tensor | None = None) -> Tensor:
        """`documents` int64 [B, T] or None; ValueError for some where the write is a set."""
        return self.recall(x, prefix, documents)[0]

    def prefill(self, x: Tensor, *, prefix: int = 0) -> tuple[Tensor, MemoryCache]:
        """`forward`, and what `step` needs after x [B, P + T, W]. For causal memories only."""
        if not self.causal:
            raise ValueError("a memory that is written as a set cannot go token by token")
        return self.recall(x, prefix, None)

    def step(self, x: Tensor, cache: MemoryCache, position: Position) -> tuple[Tensor, MemoryCache]:
        """Take one more token x [B, 1, W] into the memory, the `position`-th of its document."""
        read, cache = self.write_next(self.qkv(x), self.gates(x), cache, position)
        return self.output(read, x), cache

    def write_next(
        self, projected: Tensor, gates: Gates, cache: MemoryCache, position: Position
    ) -> tuple[Tensor, MemoryCache]:
        """`step` between its projections: [B, 1, 3 W] and gates [N, 1] -> [N, 1, D]."""
        mixed, tail = self.convolution.step(projected, cache.tail)
        heads = Heads(*(each[:, 0] for each in unit_heads(mixed, self.config.heads)))
        given = Gates(*(each[:, 0] for each in gates))
        with torch.autocast(projected.device.type, enabled=False):
            read, state = self.write(heads, given, cache.state, position)
        return read[:, None], MemoryCache(state, tail)

    def write(
        self, heads: Heads, gates: Gates, state: State, position: Position
    ) -> tuple[Tensor, State]:
        """Write one token, [N, D] each and gates [N]: what it reads after that, and the state."""
        if isinstance(state, DeepState):
            chunk, gradient = self.config.chunk, self.config.gradient
            return deep_step(
                *heads, gates, state, chunk=chunk, gradient=gradient, position=position
            )
        return linear_step(*heads, gates, state)

    def initial_state(self, batch: int) -> State:
        """Initial state of the memory, [N, ...]: the learned weights, and no momentum."""
        kind = torch.promote_types(self.initial[0].dtype, torch.float32)
        weights = [each.to(kind).repeat(batch, 1, 1) for each in self.initial]
        still = [torch.zeros_like(each) for each in weights]
        if self.config.depth == 1:
            return LinearState(weights[0], still[0])
        return DeepState(weights[0], still[0], weights[1], still[1], weights[0], weights[1])

    def heads(self, projected: Tensor, documents: Tensor | None = None) -> Heads:
        """Queries, keys and values of the tokens [B, T, 3 W] that `qkv` projected."""
        return Heads(*heads_of(projected, self.convolution, self.config.heads, documents))

    def recall(
        self, x: Tensor, prefix: int, documents: Tensor | None
    ) -> tuple[Tensor, MemoryCache]:
        """`forward`, and what the memory holds after x [B, P + T, W]."""
        if self.causal:
            return self.record(x, prefix, documents, keep=False)[:2]
        if documents is not None:
            raise ValueError("a memory that is written as a set takes no packed documents")
        projected = self.qkv(x)
        gates, state = self.gates(x), self.initial_state(len(x))
        heads = self.heads(projected)
        with torch.autocast(x.device.type, enabled=False):
            read, state = set_memory(*heads, gates, state, steps=self.config.set_steps)
        return self.output(read, x), self._cache(state, projected, prefix)

    def record(
        self, x: Tensor, prefix: int, documents: Tensor | None, *, keep: bool = True
    ) -> tuple[Tensor, MemoryCache, Written]:
        """`recall` of a causal memory, and what it wrote, for queries.py.

        The persistent tokens are a document of their own; they read and are not written.
        """
        if documents is None and not keep:
            whole = self._as_a_whole(x, prefix)
            if whole is not None:
                return *whole, Written(())
        projected, gates, state = self.qkv(x), self.gates(x), self.initial_state(len(x))
        later = projected
        if prefix:  # what is cut out of a tensor is copied on the way back
            later, gates = projected[:, prefix:], Gates(*(gate[:, prefix:] for gate in gates))
        config, heads = self.config, self.heads(later, documents)
        given = Sequence(
            heads, gates, state, documents, config.chunk, config.gradient, config.momentum, keep
        )
        with torch.autocast(x.device.type, enabled=False):
            read, after, written = self._scanned(given)
        if prefix:
            read = torch.cat([self._at_start(projected[:, :prefix], state), read], 1)
        return self.output(read, x), self._cache(after, projected, prefix), written

    def _scanned(self, given: Sequence) -> tuple[Tensor, State, Written]:
        """The scan over chunks; compiled code on a GPU leaves it out of its graph."""
        if scan_is_apart(given.heads.query):
            from .scan_apart import scan_memory_apart

            return scan_memory_apart(given)
        return scan_memory(given)

    def _as_a_whole(self, x: Tensor, prefix: int) -> tuple[Tensor, MemoryCache] | None:
        """`record` of one document by a call of C for the whole layer; None where none serves."""
        if not torch.compiler.is_compiling():
            return None
        later, state, config = x[:, prefix:], self.initial_state(len(x)), self.config
        weights = LayerWeights(self.qkv.weight, self.convolution.weight, self.norm, self.out.weight)
        whole = whole_layer(
            later, weights, self.gates, self.output, state, config.chunk, config.gradient
        )
        if whole is None:
            return None
        out, after = whole
        # decoding goes on from the last projections
        last = x[:, x.shape[1] - self.convolution.taps + 1 :]
        projected = self.qkv(torch.cat([x[:, :prefix], last], 1))
        if prefix:
            read = self._at_start(projected[:, :prefix], state)
            out = torch.cat([self.output(read, x[:, :prefix]), out], 1)
        return out, self._cache(after, projected, prefix)

    def _at_start(self, projected: Tensor, state: State) -> Tensor:
        """What persistent tokens read, from projections [B, P, 3 W]: [N, P, D]."""
        query = self.heads(projected).query
        with torch.autocast(projected.device.type, enabled=False):
            return self.read(query, state)

    def _cache(self, state: State, projected: Tensor, prefix: int) -> MemoryCache:
        return MemoryCache(state, self.convolution.tail(projected[:, prefix:]))

    def read(self, query: Tensor, state: State) -> Tensor:
        """What queries [N, T, D] find in the state, [N, T, D]."""
        if isinstance(state, DeepState):
            return read_deep(query, state, gradient=self.config.gradient)
        return query @ state.weights

    def output(self, read: Tensor, x: Tensor) -> Tensor:
        """[N, T, D] -> [B, T, W]: each head's recall to one size, then mixed."""
        out: Tensor = self.out(self.joined(read, x))
        return out

    def joined(self, read: Tensor, x: Tensor) -> Tensor:
        """`output` before the heads are mixed, in the dtype of x."""
        read = nn.functional.rms_norm(read, (self.head_width,), eps=1e-5)
        joined = read.view(len(x), -1, *read.shape[1:]).transpose(1, 2).flatten(2)
        return (joined * self.norm).to(x.dtype)
