"""AdamW by parameter name, its learning rate as a pure function of the step, averaged weights."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..config.run_config import TrainingConfig


def learning_rate(step: int, training: TrainingConfig) -> float:
    """The learning rate of optimizer step `step`, which counts from 1 to `training.steps`.

    Linear warm-up from 0 to the peak, then `cosine` to the final ratio at the last step,
    `wsd` (warmup-stable-decay: flat, then linear over the last `decay_fraction` of the
    steps; Hu et al. 2024, MiniCPM, section 4) or `constant`.
    """
    if step <= training.warmup_steps:
        return training.learning_rate * step / training.warmup_steps
    final = training.final_learning_rate_ratio
    if training.schedule == "constant":
        share = 1.0
    elif training.schedule == "cosine":
        progress = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
        share = final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    else:
        decay_steps = max(1, round(training.decay_fraction * training.steps))
        left = max(0, training.steps - step)
        share = final + (1 - final) * min(1.0, left / decay_steps)
    return training.learning_rate * share


def build_optimizer(model: nn.Module, training: TrainingConfig) -> torch.optim.AdamW:
    """AdamW; weight decay only on parameters with two or more dimensions (not norms, biases).

    On a GPU one kernel moves many weights.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=training.learning_rate,
        betas=(training.beta1, training.beta2),
        fused=all(p.is_cuda for p in trainable) or None,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Use `value` in every parameter group from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = value


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state as {`<parameter name>/<state name>`: tensor}."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` gave.

    torch keeps its `step` counters on the CPU, but for optimizers that are fused.
    """
    parameters = dict(model.named_parameters())
    fused = all(group.get("fused") for group in optimizer.param_groups)
    for full_name, value in tensors.items():
        name, key = full_name.rsplit("/", 1)
        parameter = parameters[name]
        device = "cpu" if key == "step" and not fused else parameter.device
        optimizer.state[parameter][key] = value.to(device)


class Ema:
    """Exponential moving average of weights: average <- decay * average + (1 - decay) * weights.

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
