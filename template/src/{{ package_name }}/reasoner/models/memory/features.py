"""The features of the deep memory's hidden layer, n(phi(z)), and their gradient.

phi is SiLU and n(x) = x / sqrt(|x|^2 + 1e-6); see deep.py for why.
"""

from torch import Tensor
from torch.nn.functional import silu

EPSILON = 1e-6


def features(z: Tensor) -> Tensor:
    """n(phi(z)) over the last dimension; its length is below 1."""
    active = silu(z)
    return active * (active.square().sum(-1, keepdim=True) + EPSILON).rsqrt()


def features_backward(z: Tensor, grad: Tensor) -> Tensor:
    """The gradient at z of <features(z), grad>: d(x/r)/dx = (I - h h^T) / r with h = x / r."""
    active = silu(z)
    inverse = (active.square().sum(-1, keepdim=True) + EPSILON).rsqrt()
    unit = active * inverse
    along = (unit * grad).sum(-1, keepdim=True)
    return inverse * (grad - unit * along) * silu_slope(z)


def silu_slope(z: Tensor) -> Tensor:
    """The derivative of SiLU."""
    gate = z.sigmoid()
    return gate * (1 + z * (1 - gate))
