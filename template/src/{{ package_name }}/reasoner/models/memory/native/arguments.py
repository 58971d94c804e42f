"""What the C of native/ is called with: its structures, of addresses of tensors.

B batch, T tokens in G chunks, I numbers a token, O outputs, H heads, N = B H rows, D key width,
W = H D, J taps, F features (0: a linear memory), V value width; K = F, or D where there are none.
All are float32 and lie row by row in memory; a state is [N, D, 2 F] or [N, K, 2 V], a row of
weights and beside it that of momentum. What may be missing is None.
"""

import ctypes
from typing import Self

from torch import Tensor

_NUMBER, _ADDRESS = ctypes.c_long, ctypes.c_void_p


class Arguments(ctypes.Structure):
    """A structure that keeps the tensors whose addresses it holds."""

    held: list[Tensor]

    @classmethod
    def of(cls, **values: Tensor | int | None) -> Self:
        """Of its fields; others are 0 or None. Raises ValueError for a tensor with gaps."""
        made = cls()
        made.held = [x for x in values.values() if isinstance(x, Tensor)]
        for name, value in values.items():
            apart = name == "x"  # its stride is told
            if isinstance(value, Tensor) and not (apart or value.is_contiguous()):
                raise ValueError(f"{name} does not lie row by row in memory: {value.stride()}")
            setattr(made, name, value.data_ptr() if isinstance(value, Tensor) else value)
        return made


class Given(Arguments):
    """Inputs of both passes."""

    _fields_ = (
        *((name, _NUMBER) for name in ("threads", "rows", "tokens", "size")),
        *((name, _NUMBER) for name in ("keys", "features", "values")),
        *((name, _ADDRESS) for name in ("q", "k", "v")),  # [N, T, D], [N, T, D], [N, T, V]
        # or what they are made of
        *((name, _NUMBER) for name in ("heads", "width", "taps", "inputs", "stride")),
        ("x", _ADDRESS),  # [B, T, I], `stride` numbers from batch to batch
        ("matrix", _ADDRESS),  # [3 W, I]
        ("projected", _ADDRESS),  # [B, T, 3 W]; without x it is given, otherwise a result
        ("weights", _ADDRESS),  # [J, 3 W] of the convolution
        ("panels", _ADDRESS),  # C's own
        *((name, _ADDRESS) for name in ("rate", "keep", "eta", "inner_rate")),  # [N, T]
        ("resets", _ADDRESS),  # bool [N, G]
        *((name, _ADDRESS) for name in ("first_initial", "second_initial")),
    )


class Results(Arguments):
    """Results of the forward pass; the states begin as they are before the first token."""

    _fields_ = (
        *((name, _ADDRESS) for name in ("first", "second")),
        # [N, T, V] twice, [N, T, F]; the latter two may be missing
        *((name, _ADDRESS) for name in ("read", "errors", "unit")),
        *((name, _ADDRESS) for name in ("first_starts", "second_starts")),  # [N, G - begin, ...]
        ("begin", _NUMBER),  # the first chunk whose start is kept
    )


class Back(Arguments):
    """What the backward pass takes: of the forward pass, and gradients of its results."""

    _fields_ = (
        *((name, _ADDRESS) for name in ("first_starts", "second_starts", "errors")),
        *((name, _ADDRESS) for name in ("by_read", "by_errors", "by_unit")),
        *((name, _ADDRESS) for name in ("by_first_starts", "by_second_starts")),
        ("begin", _NUMBER),  # the first chunk whose start has gradients
    )


class Grads(Arguments):
    """Results of the backward pass; those of states begin as they are after the last token."""

    _fields_ = (
        *((name, _ADDRESS) for name in ("q", "k", "v", "rate", "keep", "eta", "inner_rate")),
        *((name, _ADDRESS) for name in ("projected", "weights")),  # the latter [N, J, 3, D]
        *((name, _ADDRESS) for name in ("first", "second")),
        *((name, _ADDRESS) for name in ("first_initial", "second_initial")),
    )


class GatesGiven(Arguments):
    """Inputs and results of the gates of all tokens, in blocks of `size` of them."""

    _fields_ = (
        *((name, _NUMBER) for name in ("threads", "batch", "tokens", "inputs", "heads", "size")),
        *((name, _NUMBER) for name in ("kinds", "momentum", "forgetting", "stride")),
        *((name, _ADDRESS) for name in ("x", "matrix", "bias")),  # as in gates.c
        *((name, _ADDRESS) for name in ("rate", "keep", "eta", "inner_rate")),  # [N, T]
    )


class OutputGiven(Arguments):
    """Inputs and result of what heads have read, in blocks of `size` tokens."""

    _fields_ = (
        *((name, _NUMBER) for name in ("threads", "batch", "tokens", "heads", "width")),
        *((name, _NUMBER) for name in ("outputs", "size")),
        *((name, _ADDRESS) for name in ("read", "norm", "matrix")),  # [N, T, D], [W], [O, W]
        ("out", _ADDRESS),  # [B, T, O]
    )


def by_token(x: Tensor) -> Tensor:
    """x [B, T, I] as C takes it: tokens of a batch one after another, batches as they lie."""
    return x if x.stride()[1:] == (x.shape[2], 1) else x.contiguous()
