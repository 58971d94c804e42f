"""Which row attends to which, and the kernel that suits: persistent tokens, window, documents.

B batch, P persistent tokens (the prefix), T tokens, H heads, D head width, W window. Softmax
attention as in Vaswani et al. 2017, section 3.2.1; persistent tokens and the window as in
Titans (Behrouz et al. 2024), section 4.2.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from .window_mask import check_window

if TYPE_CHECKING:  # its import takes a second, and brings the compiler
    from torch.nn.attention.flex_attention import BlockMask

FLEX_HEAD_WIDTHS = (16, 32, 64, 128)
FLEX_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
LONG_WINDOW, PARTS = 128, 2
"""From which on a window is cut into blocks of queries, and how many."""


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    prefix: int = 0,
    window: int = 0,
    causal: bool = False,
    documents: Tensor | None = None,
    block_mask: "BlockMask | None" = None,
) -> Tensor:
    """softmax(q k^T / sqrt(D)) v over what each row may see; q, k, v, result [B, H, P + T, D].

    The first `prefix` rows are persistent tokens. Not causal: everything sees everything.
    Causal: a token sees the prefix, itself and the tokens before it, with a `window` only
    the last `window` of them, itself included. `documents` int64 [B, T], nondecreasing: a token
    sees the prefix and its own document only. With `causal` or `documents` a persistent row sees
    persistent rows only. With a window the memory grows linearly in T. `block_mask` is
    that of `block_mask_of`, where it is at hand.

    Raises ValueError for a window below 0 or without `causal`.
    """
    check_window(window, causal)
    if not causal and documents is None:
        return scaled_dot_product_attention(q, k, v)
    if 0 < window < q.shape[2] - prefix:
        block_mask = block_mask or block_mask_of(
            q, q.shape[2], prefix=prefix, window=window, documents=documents
        )
        if block_mask is not None:
            from .flex import windowed_attention

            return windowed_attention(q, k, v, block_mask)
        return _block_local(q, k, v, prefix, window, documents)
    if documents is None:  # a token's row is that of plain causal attention over the prefix, too
        tokens = scaled_dot_product_attention(q, k, v, is_causal=True)[:, :, prefix:]
    else:
        mask = documents[:, :, None] == documents[:, None, :]
        mask = pad(mask.tril() if causal else mask, (prefix, 0), value=True)
        tokens = scaled_dot_product_attention(q[:, :, prefix:], k, v, attn_mask=mask[:, None])
    if not prefix:
        return tokens
    q, k, v = (x[:, :, :prefix] for x in (q, k, v))
    return torch.cat([scaled_dot_product_attention(q, k, v), tokens], 2)


def block_mask_of(
    like: Tensor, rows: int, *, prefix: int, window: int, documents: Tensor | None
) -> "BlockMask | None":
    """What FlexAttention has to know for heads `like` [..., D] of `rows` rows, P + T of them.

    It is the same for all attentions of a model, and takes longer to make than attention itself.
    None where there is no window to cut anything, or FlexAttention does not serve.
    """
    if not (0 < window < rows - prefix and _flex_fits(like)):
        return None
    from .flex import window_mask

    return window_mask(rows, like.device, prefix=prefix, window=window, documents=documents)


def _flex_fits(q: Tensor) -> bool:
    return q.is_cuda and q.dtype in FLEX_DTYPES and q.shape[-1] in FLEX_HEAD_WIDTHS


def _block_local(
    q: Tensor, k: Tensor, v: Tensor, prefix: int, window: int, documents: Tensor | None
) -> Tensor:
    """Causal attention with a window < T, block of queries after block.

    The first `window` tokens have none before them, so there the window cuts nothing. Each later
    block sees the prefix, the window before it and itself, through one and the same mask.
    """
    start, size = prefix + window, _block_size(window)
    first = attend(
        *(x[:, :, :start] for x in (q, k, v)),
        prefix=prefix,
        causal=True,
        documents=None if documents is None else documents[:, :window],
    )
    later = q.shape[2] - start
    missing = -later % size
    queries = _blocks(pad(q[:, :, start:], (0, 0, 0, missing)), size)
    batch, count = queries.shape[:2]
    ahead = window - torch.arange(window + size, device=q.device)
    distance = torch.arange(size, device=q.device)[:, None] + ahead
    mask = (distance >= 0) & (distance < window)
    shifts = range(window // size + 1)
    if documents is not None:
        ids = pad(documents, (0, missing), value=-1).reshape(batch, -1, size)
        around = torch.cat([ids[:, shift : shift + count] for shift in shifts], 2)
        same = ids[:, -count:, :, None] == around[:, :, None, :]
        mask = (mask & same).flatten(0, 1)[:, None]

    def around_blocks(x: Tensor) -> Tensor:
        """Gather from [B, H, P + T, D] the rows each block looks at, [B * blocks, H, ..., D]."""
        shared = x[:, None, :, :prefix].expand(-1, count, -1, -1, -1)
        rows = _blocks(pad(x[:, :, prefix:], (0, 0, 0, missing)), size)
        parts = [rows[:, shift : shift + count] for shift in shifts]
        return torch.cat([shared, *parts], 3).flatten(0, 1)

    out = scaled_dot_product_attention(
        queries.flatten(0, 1),
        around_blocks(k),
        around_blocks(v),
        attn_mask=pad(mask, (prefix, 0), value=True),
    )
    rest = out.reshape(batch, count, *out.shape[1:]).transpose(1, 2).flatten(2, 3)
    return torch.cat([first, rest[:, :, :later]], 2)


def _block_size(window: int) -> int:
    """Queries of a block: fewer look at less that is masked, and have more copied for them."""
    return window // PARTS if window % PARTS == 0 and window >= LONG_WINDOW else window


def _blocks(x: Tensor, size: int) -> Tensor:
    """Cut rows [B, H, blocks * size, D] into blocks of queries, [B, blocks, H, size, D]."""
    batch, heads, rows, width = x.shape
    return x.reshape(batch, heads, rows // size, size, width).transpose(1, 2)
