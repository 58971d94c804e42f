"""What a long-term memory holds: the weights that learn while the model runs, and their momentum.

N rows (batch times heads), D key width, F features, V value width.
"""

from typing import Literal, NamedTuple

from torch import Tensor

Gradient = Literal["exact", "stale"]
Position = int | None
"""A token's, from the start of the sequence (0); None where `freeze` has seen to chunks."""


class LinearState(NamedTuple):
    """State of a linear memory after a token: weights and momentum."""

    weights: Tensor
    """[N, D, V] M."""
    momentum: Tensor
    """[N, D, V] S."""


class DeepState(NamedTuple):
    """What the memory holds after a token, and what the chunk that it is in began with."""

    first: Tensor
    """[N, D, F] W1."""
    first_momentum: Tensor
    """[N, D, F]."""
    second: Tensor
    """[N, F, V] W2."""
    second_momentum: Tensor
    """[N, F, V]."""
    frozen_first: Tensor
    """[N, D, F] W1 at the start of the last token's chunk."""
    frozen_second: Tensor
    """[N, F, V] W2 at the start of the last token's chunk."""


State = LinearState | DeepState
