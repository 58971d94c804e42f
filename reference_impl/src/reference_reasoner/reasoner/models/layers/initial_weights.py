"""The distribution that weights begin with."""

import math

import torch
from torch import Tensor


def truncated_normal(tensor: Tensor, std: float) -> Tensor:
    """Fill with normal numbers cut off at two deviations, scaled so that `std` is what remains.

    As LeCun's initialisation in JAX, which TRM follows: cutting a normal distribution at +-2
    shrinks its standard deviation to 0.8796. By the inverse of the distribution function, which
    needs no look at the numbers, so that a model can be built where there are none.
    """
    bound = 2.0
    density = math.exp(-(bound**2) / 2) / math.sqrt(2 * math.pi)
    inside = math.erf(bound / math.sqrt(2))
    kept = math.sqrt(1 - 2 * bound * density / inside)
    with torch.no_grad():
        tensor.uniform_(-inside, inside).erfinv_().mul_(math.sqrt(2) * std / kept)
        return tensor.clamp_(-bound * std / kept, bound * std / kept)
