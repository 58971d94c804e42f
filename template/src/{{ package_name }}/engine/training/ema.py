"""An exponential moving average of the weights, kept beside the raw ones."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """average <- decay * average + (1 - decay) * weights, for every floating-point tensor.

    Other tensors of the model's state (counters) are copied. The average starts at the
    initial weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self._floating = [k for k, v in self.tensors.items() if v.is_floating_point()]
        self._counters = [k for k, v in self.tensors.items() if not v.is_floating_point()]
        # few kernels for all tensors on a GPU
        self._take_step = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take one step of the average towards the model's weights."""
        weights = model.state_dict()
        averages = [self.tensors[name] for name in self._floating]
        self._take_step(averages, [weights[name] for name in self._floating], None)
        for name in self._counters:
            self.tensors[name].copy_(weights[name])

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace the average; same names and shapes as the model's state."""
        for name, average in self.tensors.items():
            average.copy_(tensors[name])

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Inside, `model` holds the averaged weights; afterwards its own again."""
        own = {k: v.detach().clone() for k, v in model.state_dict().items()}
        model.load_state_dict(self.tensors)
        try:
            yield
        finally:
            model.load_state_dict(own)
