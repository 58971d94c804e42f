"""The Triton kernels equal the torch form in float64.

They run on a GPU. Without one, by Triton's interpreter, slowly, where there is Triton:
`TRITON_INTERPRET=1 pytest tests/reasoner/models/test_gpu_kernels.py`. Skipped without either.
"""

import importlib
import os
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from reference_reasoner.reasoner.models.full_model import RecursiveReasoner
from reference_reasoner.reasoner.models.layers.triton_support import (
    TRITON_IS_THERE,
)
from reference_reasoner.reasoner.models.memory.config import MemoryConfig
from reference_reasoner.reasoner.models.memory.gates import Gates
from reference_reasoner.reasoner.models.memory.gpu.linear_launch import kernels_may_serve
from reference_reasoner.reasoner.models.memory.heads import Heads
from reference_reasoner.reasoner.models.memory.neural_memory import NeuralMemory
from reference_reasoner.reasoner.models.memory.scan import Sequence, scan_memory
from reference_reasoner.reasoner.models.memory.sets import set_memory
from reference_reasoner.reasoner.models.memory.solve import recurrence, substitution
from reference_reasoner.reasoner.models.memory.state import LinearState
from reference_reasoner.reasoner.models.serving import fused_block, fused_step
from reference_reasoner.reasoner.models.serving.cuda_graph import Capture, Run, captured
from reference_reasoner.reasoner.models.serving.decoding import prefill, step
from reference_reasoner.reasoner.models.serving.fused_step import FusedStep, fused_steps
from reference_reasoner.reasoner.models.serving.graphed_solving import GraphedReasoner
from reference_reasoner.reasoner.models.titans_mag import MagBlock

from .reasoners import DEEP, GRID, as_built, shallow, tokens_of

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and TRITON_IS_THERE
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
    return importlib.import_module(f"reference_reasoner.reasoner.models.{name}")


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
        found = kernels("serving.set_launch").recalled(*on_gpu[0], on_gpu[1])
        assert found.dtype == dtype
        exact = expected(memory.cpu().double(), pairs.double(), logits.double())
    assert close(found, exact, tolerance)


def expected(memory: NeuralMemory, pairs: Tensor, logits: Tensor) -> Tensor:
    """By torch, up to the last projection."""
    memory.out = torch.nn.Identity()  # type: ignore[assignment]
    state, gates = memory.initial_state(len(pairs)), memory.gates.of_logits(logits)
    read, _ = set_memory(*memory.heads(pairs), gates, state, steps=memory.config.set_steps)
    return memory.output(read, pairs[..., : pairs.shape[-1] // 3])


def as_it_is(run: Run) -> Run:
    """A capture where no graph can be recorded."""
    return run


def test_a_fused_reasoner_solves_with_kernels_as_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU from CUDA graphs."""
    capture: Capture = captured
    if INTERPRETED:
        capture = as_it_is
        monkeypatch.setattr(fused_block, "set_kernel_serves", lambda *_, **sizes: True)
    memory = MemoryConfig(heads=2, depth=2, features=32)
    backbone = replace(GRID.backbone, width=64, hidden_width=128, memory=memory)
    model = as_built(shallow(replace(GRID, backbone=backbone))).eval().to(DEVICE)
    tokens = tokens_of(3, 10).to(DEVICE)
    with torch.no_grad():
        expected = model.solve(tokens, threshold=1.0, max_steps=2)
    graphed = GraphedReasoner(fused_block.fused(model), capture=capture)
    for _ in range(2):
        found = graphed.solve(tokens, threshold=1.0, max_steps=2)
        torch.testing.assert_close(found.output, expected.output, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(found.logit, expected.logit, rtol=1e-3, atol=1e-3)


STEPS = {
    "linear": {"depth": 1},
    "deep": {},
    "asked alone": {"write": "first_pass"},
    "no gates": {"momentum": False, "forgetting": False},
    "one tap": {"convolution": 1},
    "two taps": {"convolution": 2},
}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-2)])
@pytest.mark.parametrize("name", STEPS)
def test_a_token_is_decoded_by_kernels_as_by_torch(
    name: str, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the window and over chunks' ends; there are more rows than a program takes at once."""
    if INTERPRETED:
        monkeypatch.setattr(fused_step, "step_kernels_serve", lambda *_, **__: True)
    served, by_kernels = [], FusedStep.heads_by_kernels

    def counted(*given: Any) -> Tensor:
        served.append(given)
        return by_kernels(*given)

    monkeypatch.setattr(FusedStep, "heads_by_kernels", counted)
    memory = MemoryConfig(**{"heads": 2, "depth": 2, "features": 32, "chunk": 4, **STEPS[name]})
    backbone = replace(DEEP.backbone, width=64, heads=4, window=130, memory=memory)
    model = as_built(shallow(replace(DEEP, backbone=backbone, persistent_tokens=3))).eval()
    with torch.no_grad():
        for parameter in model.backbone.parameters():  # gates that look at their token
            parameter.add_(0.02 * torch.randn_like(parameter))
    tokens, given, length = tokens_of(2, 132), 128, 132
    exact = logits(model.double(), tokens, given, length)
    model = model.to(DEVICE, dtype)
    found = logits(model, tokens.to(DEVICE), given, length, fused_steps(model))
    assert close(found, exact, tolerance)
    assert len(served) == (length - given) * 2 * 2 * 2  # steps, recursions, passes


def logits(
    model: RecursiveReasoner,
    tokens: Tensor,
    given: int,
    length: int,
    block_step: Any = MagBlock.step,
) -> Tensor:
    """Of tokens `given` to `length`, one by one."""
    found = []
    with torch.no_grad():
        _, state = prefill(model, tokens[:, :given])
        for position in range(given, length):
            out, state = step(model, tokens[:, position], state, block_step=block_step)
            found.append(out)
    return torch.stack(found, 1)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("size", "columns"), [(64, 192), (128, 40), (37, 16), (5, 3), (16, 16)])
def test_substitution_is_that_of_torch(size: int, columns: int, transposed: bool) -> None:
    """With keys so alike that errors nearly cancel, where powers of L would be far too large."""
    keys = torch.nn.functional.normalize(1 + 0.1 * normal(2, 3, size, 64, seed=1), dim=-1)
    lower = (keys @ keys.mT).tril(-1)
    right = normal(2, 3, size, columns, seed=2)
    found = kernels("memory.gpu.linear_launch").substituted(
        lower.to(DEVICE), right.to(DEVICE), transposed=transposed
    )
    exact = substitution(lower.double(), right.double(), transposed=transposed)
    assert close(found, exact, 1e-5)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("resetting", [False, True])
@pytest.mark.parametrize(("size", "columns"), [(128, 64), (16, 48)])
def test_the_recurrence_is_that_of_torch(
    size: int, columns: int, resetting: bool, backwards: bool
) -> None:
    steps = normal(2, 5, size, size, seed=1) / size**0.5
    pushes, start = normal(2, 5, size, columns, seed=2), normal(2, size, columns, seed=3)
    initial, resets = None, None
    if resetting:
        initial = normal(2, size, columns, seed=4)
        resets = torch.tensor([[1, 0, 1, 0, 0], [0, 1, 0, 0, 1]]).bool()
    given = (steps, pushes, start, initial, resets)
    moved = (None if x is None else x.to(DEVICE) for x in given)
    found = kernels("memory.gpu.linear_launch").recurred(*moved, backwards=backwards)
    exact_given = (x.double() if x is not None and x.is_floating_point() else x for x in given)
    exact = recurrence(*exact_given, backwards=backwards)  # type: ignore[arg-type]
    assert all(close(*each, 1e-5) for each in zip(found, exact, strict=True))


def close(found: Tensor, exact: Tensor, tolerance: float) -> bool:
    """By the largest number of all."""
    error = (found.cpu().double() - exact).abs().max()
    return bool(error <= tolerance * exact.abs().max())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("momentum", "tolerance"), [(True, 1e-4), (False, 1e-2)])
def test_a_memory_on_a_gpu_learns_as_on_a_cpu(momentum: bool, tolerance: float) -> None:
    """Values and gradients, kernels and all; the CPU's are float64.

    Without momentum by the extra `fla`, whose products are TF32.
    """
    if not momentum:
        pytest.importorskip("fla", reason="needs the extra fla")
    leaves = [normal(4, 200, 64, seed=seed).double().requires_grad_() for seed in (1, 2, 3)]
    logits = [normal(4, 200, seed=seed).double() for seed in (4, 5, 6)]

    def run(leaves: list[Tensor], device: str, dtype: torch.dtype) -> list[Tensor]:
        q, k, v = leaves
        rate, forget, eta = (x.to(device, dtype) for x in logits)
        log_keep, log_eta = (torch.nn.functional.logsigmoid(x) for x in (4 - forget, eta))
        if not momentum:
            log_eta = torch.full_like(log_eta, -torch.inf)
        gates = Gates(rate.sigmoid(), log_keep, log_eta, rate)
        state = LinearState(*torch.zeros(2, 4, 64, 64, device=device, dtype=dtype))
        unit = (torch.nn.functional.normalize(x, dim=-1) for x in (q, k))
        given = Sequence(Heads(*unit, v), gates, state, None, 64, "exact", momentum)
        read, after, _ = scan_memory(given)
        total = read.square().sum() + sum(x.square().sum() for x in after)
        return [read, *after, *torch.autograd.grad(total, leaves)]

    moved = [x.detach().to("cuda", torch.float32).requires_grad_() for x in leaves]
    assert kernels_may_serve(moved[0])
    found = run(moved, "cuda", torch.float32)
    exact = run(leaves, "cpu", torch.float64)
    assert all(close(*each, tolerance) for each in zip(found, exact, strict=True))
