"""Documents packed into one row, laid out so that each begins at a chunk's start.

The memory's chunks must not depend on what stands before a document, or a packed document
would not equal the document alone. B batch, T tokens, C chunk, L padded length.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class DocumentLayout(NamedTuple):
    """Layout of packed documents: each token's place in rows padded to whole chunks a document."""

    slots: Tensor
    """int64 [B, T]: the token's place in the padded row."""
    resets: Tensor
    """bool [B, L / C]: the chunks with which a document begins."""
    length: int
    """L"""

    @classmethod
    def of(cls, documents: Tensor, chunk: int) -> "DocumentLayout":
        """The layout for `documents` int64 [B, T], equal ids side by side.

        L depends on the data, so this waits for the device once.
        """
        batch, tokens = documents.shape
        index = torch.arange(tokens, device=documents.device).expand(batch, tokens)
        begins = torch.ones_like(documents, dtype=torch.bool)
        begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
        place = index - torch.where(begins, index, 0).cummax(1).values
        chunks = (place % chunk == 0).cumsum(1) - 1
        count = int(chunks.max()) + 1
        resets = torch.zeros(batch, count, dtype=torch.bool, device=documents.device)
        resets.scatter_(1, torch.where(begins, chunks, 0), True)  # chunk 0 begins one anyway
        return cls(slots=chunks * chunk + place % chunk, resets=resets, length=count * chunk)

    def spread(self, x: Tensor) -> Tensor:
        """Spread tokens x [B, T, ...] over padded rows [B, L, ...], zeros where none stands."""
        padded = x.new_zeros(x.shape[0], self.length, *x.shape[2:])
        rows = torch.arange(x.shape[0], device=x.device)[:, None]
        return padded.index_put((rows, self.slots), x)

    def gather(self, x: Tensor) -> Tensor:
        """Gather tokens [B, T, ...] from their places in padded rows x [B, L, ...]."""
        rows = torch.arange(x.shape[0], device=x.device)[:, None]
        return x[rows, self.slots]
