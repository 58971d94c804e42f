"""The Triton kernels equal the torch form in float64.

They run on a GPU. Without one, by Triton's interpreter, slowly: in an environment that has Triton,
`TRITON_INTERPRET=1 pytest tests/models/test_gpu_kernels.py`. Skipped where there is neither.
"""

import importlib
import os
from typing import Any

import pytest
import torch
from torch import Tensor

from reference_reasoner.models.gpu_kernels import triton_is_there
from reference_reasoner.models.memory_set import set_memory
from reference_reasoner.models.neural_memory import MemoryConfig, NeuralMemory

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and triton_is_there()
DEVICE = "cpu" if INTERPRETED else "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not (INTERPRETED or torch.cuda.is_available()),
        reason="needs a GPU, or TRITON_INTERPRET=1 and Triton",
    ),
]


def kernels(name: str) -> Any:
    """A module of kernels: it can be imported only where there is Triton."""
    return importlib.import_module(f"reference_reasoner.models.{name}")


SETS = {
    "grid25m": (MemoryConfig(heads=2, depth=2, features=128), 64, 97),
    "two steps": (MemoryConfig(heads=2, depth=2, features=64, set_steps=2), 32, 37),
    "no gates": (
        MemoryConfig(heads=1, depth=2, features=16, momentum=False, forgetting=False),
        16,
        5,
    ),
    "two taps": (MemoryConfig(heads=2, depth=2, features=16, convolution=2, set_steps=3), 64, 128),
}


def set_memory_of(config: MemoryConfig, width: int, dtype: torch.dtype) -> NeuralMemory:
    torch.manual_seed(0)
    memory = NeuralMemory(config.heads * width, config, causal=False)
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return memory.to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.bfloat16, 1.5e-2)])
@pytest.mark.parametrize("name", SETS)
def test_a_set_is_read_as_by_torch(name: str, dtype: torch.dtype, tolerance: float) -> None:
    config, width, rows = SETS[name]
    memory = set_memory_of(config, width, dtype)
    x = torch.randn(3, rows, memory.qkv.in_features, dtype=dtype)
    with torch.no_grad():
        # as in a fused block, where they are columns of one product
        both = torch.cat([memory.qkv(x), memory.gates.linear(x)], -1)
        pairs, logits = both.split([3 * x.shape[-1], both.shape[-1] - 3 * x.shape[-1]], -1)
        moved = memory.to(DEVICE)
        on_gpu = (both.to(DEVICE).split([pairs.shape[-1], logits.shape[-1]], -1), moved)
        found = kernels("memory_set_cuda").recalled(*on_gpu[0], on_gpu[1])
        assert found.dtype == dtype
        exact = expected(memory.cpu().double(), pairs.double(), logits.double())
    error = (found.cpu().double() - exact).abs().max() / exact.abs().max()
    assert error < tolerance


def expected(memory: NeuralMemory, pairs: Tensor, logits: Tensor) -> Tensor:
    """By torch, up to the last projection."""
    memory.out = torch.nn.Identity()  # type: ignore[assignment]
    state, gates = memory.initial_state(len(pairs)), memory.gates.of_logits(logits)
    read, _ = set_memory(*memory.pairs(pairs), gates, state, steps=memory.config.set_steps)
    return memory.output(read, pairs[..., : pairs.shape[-1] // 3])
