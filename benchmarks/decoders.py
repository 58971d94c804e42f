"""A model that decodes on and on, token by token or by a recording of one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves


class Decoder:
    """A model that has read `context` random tokens, and goes on with random ones."""

    def __init__(
        self,
        model: Any,
        context: int,
        seed: int,
        *,
        graph: bool = False,
        compiled: bool = False,
        fused: bool = False,
    ) -> None:
        from reference_reasoner.reasoner.models.serving import decoding

        self.context = context
        self._decoding, self._model = decoding, model
        generator = torch.Generator().manual_seed(seed)
        vocabulary = model.embedding.num_embeddings
        tokens = torch.randint(vocabulary, (1, context), generator=generator)
        tokens = tokens.to(model.persistent.device)
        _, self.state = decoding.prefill(model, tokens)
        self._token = tokens[:, -1]
        self._block_step = _block_step(model, compiled=compiled, fused=fused)
        self._recorded = _recorded(model, self.state, self._block_step) if graph else None

    def go_on(self, tokens: int) -> None:
        """Decode so many tokens more; each answer is the next token."""
        for _ in range(tokens):
            if self._recorded is not None:
                logits = self._recorded.step(self._token)
            else:
                logits, self.state = self._decoding.step(
                    self._model, self._token, self.state, block_step=self._block_step
                )
            self._token = logits.argmax(-1)
        if self._token.is_cuda:
            torch.cuda.synchronize()

    def waits(self, clock: Callable[[], float], tokens: int) -> list[float]:
        """Seconds of each of so many tokens more, for a reader who wants every one at once."""
        taken = []
        for _ in range(tokens):
            began = clock()
            self.go_on(1)
            taken.append(clock() - began)
        return taken

    def state_bytes(self) -> int:
        """Of all caches; what several of them share counts once."""
        tensors = [x for x in tree_leaves(self.state.caches) if isinstance(x, Tensor)]
        storages = {x.untyped_storage().data_ptr(): x.untyped_storage() for x in tensors}
        return sum(each.nbytes() for each in storages.values())


def _block_step(model: Any, *, compiled: bool, fused: bool) -> Any:
    """A block's step, in the form that was asked for."""
    from reference_reasoner.reasoner.models.serving.fused_step import FusedStep, fused_steps
    from reference_reasoner.reasoner.models.titans_mag import MagBlock

    step: Any = FusedStep.step if fused else MagBlock.step
    if compiled:
        step = torch.compile(step, dynamic=False)
    return fused_steps(model, step) if fused else step


def _recorded(model: Any, state: Any, block_step: Any) -> Any:
    """A decoder of one launch a token; it writes into the tensors of `state`."""
    from reference_reasoner.reasoner.models.serving.graphed_decoding import GraphedDecoder

    return GraphedDecoder(model, state, block_step=block_step)
