"""How badly a memory knows what it is shown, for reports (Titans, section 3.1).

B batch, P persistent tokens, T tokens, H heads, W width, D head width. The surprise of a pair is
|M(k) - v| / |v|: 0 is known by heart, 1 is no better than a memory that answers zero.
"""

import torch
from torch import Tensor

from .gates import Gates
from .heads import Heads
from .neural_memory import NeuralMemory
from .sequential import found_by
from .state import DeepState, State


def set_surprise(memory: NeuralMemory, x: Tensor, *, prefix: int = 0) -> tuple[Tensor, Tensor]:
    """Surprise of a set of pairs, [B, H, T]: before it is written, and after that.

    x [B, P + T, W] is the layer's input. The persistent tokens are written, too.
    """
    batch = len(x)
    pairs = memory.heads(memory.qkv(x))
    _, cache = memory.recall(x, prefix, None)
    before, after = (
        _surprise(memory, pairs.key, pairs.value, state)[:, prefix:]
        for state in (memory.initial_state(batch), cache.state)
    )
    return before.reshape(batch, -1, before.shape[1]), after.reshape(batch, -1, after.shape[1])


def token_surprise(memory: NeuralMemory, x: Tensor, *, prefix: int = 0) -> Tensor:
    """Surprise of each token, [B, H, T], with the weights that it finds before its write.

    x [B, P + T, W] is the input of a causal layer. Token by token, as decoding goes; so it takes
    as many steps as there are tokens.
    """
    x = x[:, prefix:]
    pairs, gates = memory.heads(memory.qkv(x)), memory.gates(x)
    state = memory.initial_state(len(x))
    found = []
    for place in range(x.shape[1]):
        if isinstance(state, DeepState):
            state = found_by(place, state, chunk=memory.config.chunk)
        here = slice(place, place + 1)
        found.append(_surprise(memory, pairs.key[:, here], pairs.value[:, here], state))
        heads = Heads(*(each[:, place] for each in pairs))
        _, state = memory.write(heads, Gates(*(each[:, place] for each in gates)), state, place)
    return torch.cat(found, 1).reshape(len(x), -1, len(found))


def _surprise(memory: NeuralMemory, key: Tensor, value: Tensor, state: State) -> Tensor:
    """Surprise of keys and values [B H, T, D] with given weights: [B H, T]."""
    error = memory.read(key, state) - value
    length = torch.linalg.vector_norm(value, dim=-1)
    floor = torch.finfo(length.dtype).tiny
    return torch.linalg.vector_norm(error, dim=-1) / length.clamp_min(floor)
