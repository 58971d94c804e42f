"""Kernels are launched with the sizes, strides and programs that they read; here by stand-ins.

What a stand-in does it does element by element, from what it is launched with. The kernels
themselves are held against torch in test_gpu_kernels.py.
"""

# a kernel's constants are upper case

# ruff: noqa: N803

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from reference_reasoner.reasoner.models.attention.attention import AttentionCache, Place
from reference_reasoner.reasoner.models.memory.config import MemoryConfig
from reference_reasoner.reasoner.models.memory.gpu import (
    linear_launch as memory_linear_launch,
)
from reference_reasoner.reasoner.models.memory.neural_memory import MemoryCache, NeuralMemory
from reference_reasoner.reasoner.models.memory.queries import QueryCache
from reference_reasoner.reasoner.models.memory.solve import recurrence, substitution
from reference_reasoner.reasoner.models.memory.state import DeepState, LinearState
from reference_reasoner.reasoner.models.serving import fused_step_launch
from reference_reasoner.reasoner.models.serving import (
    set_launch as memory_set_launch,
)


def constants(launch: Any, names: str) -> list[Any]:
    """What a kernel is compiled for."""
    return [getattr(launch, name) for name in names.split()]


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """A kernel of a module that does what a function does: the list of its launches."""

    def installed(module: str, kernel: str, does: Callable[..., None] | None = None) -> list[Any]:
        launches: list[Any] = []

        class Kernel:
            def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
                def launch(*given: Any, **constants: Any) -> None:
                    launches.append(SimpleNamespace(grid=grid, given=given, **constants))
                    if does is not None:
                        does(*given, **constants)

                return launch

        fake = SimpleNamespace(**{kernel: Kernel()})
        monkeypatch.setitem(sys.modules, f"reference_reasoner.reasoner.models.{module}", fake)
        return launches

    return installed


def substitute(
    lower: Tensor, right: Tensor, out: Tensor, size: int, columns: int, first_lower: int,
    first_right: int, lower_row: int, lower_column: int, right_row: int, **_: int,
) -> None:  # fmt: skip
    """Row after row, wherever the strides say that rows are."""
    for weights, given, found in zip(
        lower.view(-1, size**2), right.view(-1, size * columns), out.view(-1, size * columns),
        strict=True,
    ):  # fmt: skip
        rows = [first_right + i * right_row + torch.arange(columns) for i in range(size)]
        for i, row in enumerate(rows):
            found[row] = given[row]
            for j in range(i):
                weight = weights[first_lower + i * lower_row + j * lower_column]
                found[row] -= weight * found[rows[j]]


@pytest.mark.parametrize("transposed", [False, True])
def test_substitution_goes_either_way_by_its_strides(install: Any, transposed: bool) -> None:
    launches = install("memory.gpu.linear_cuda", "substitution_kernel", substitute)
    lower, right = normal(2, 3, 5, 5).tril(-1), normal(3, 2, 20, 5).mT  # not row by row
    right = right.transpose(0, 1)
    found = memory_linear_launch.substituted(lower, right, transposed=transposed)
    torch.testing.assert_close(found, substitution(lower, right, transposed=transposed))
    assert [each.grid for each in launches] == [(6, 2)]
    empty = memory_linear_launch.substituted(lower[:0], right[:0], transposed=transposed)
    assert empty.shape == (0, 3, 5, 20)
    assert len(launches) == 1


def carry_on(
    steps: Tensor, pushes: Tensor, start: Tensor, initial: Tensor, resets: Tensor, starts: Tensor,
    end: Tensor, chunks: int, columns: int, step_row: int, step_column: int,
    *, BACKWARDS: bool, RESETS: bool, SIZE: int, **_: int,
) -> None:  # fmt: skip
    """Chunk after chunk, wherever the strides say that a step's columns are."""
    for row in range(len(start)):
        z = start[row]
        for done in range(chunks):
            chunk = chunks - 1 - done if BACKWARDS else done
            if RESETS and not BACKWARDS and resets[row, chunk]:
                z = initial[row]
            starts[row, chunk] = z
            step = steps[row, chunk].flatten().as_strided((SIZE, SIZE), (step_row, step_column))
            z = step @ z + pushes[row, chunk]
            if RESETS and BACKWARDS and resets[row, chunk]:
                z = initial[row]
        end[row] = z
    assert columns == start.shape[-1]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("resetting", [False, True])
def test_the_recurrence_goes_either_way_by_its_strides(
    install: Any, resetting: bool, backwards: bool
) -> None:
    launches = install("memory.gpu.linear_cuda", "recurrence_kernel", carry_on)
    given = (normal(2, 3, 16, 16) / 4, normal(2, 3, 16, 32), normal(2, 16, 32))
    initial = normal(2, 32, 16).mT if resetting else None
    resets = torch.tensor([[1, 0, 1], [0, 1, 0]]).bool() if resetting else None
    found = memory_linear_launch.recurred(*given, initial, resets, backwards=backwards)
    expected = recurrence(*given, initial, resets, backwards=backwards)
    torch.testing.assert_close(found, expected)
    assert [(each.grid, each.PART) for each in launches] == [((2, 2), 16)]


@pytest.mark.parametrize(
    ("dtype", "precision"), [(torch.float32, "tf32x3"), (torch.bfloat16, "tf32")]
)
def test_a_set_is_launched_once_an_inner_step_and_once_to_read(
    install: Any, dtype: torch.dtype, precision: str
) -> None:
    launches = install("serving.set_cuda", "set_kernel")
    config = MemoryConfig(heads=2, depth=2, features=16, set_steps=2, momentum=False)
    memory = NeuralMemory(32, config, causal=False).to(dtype)
    columns = normal(3, 37, 96 + 8).to(dtype)
    with torch.no_grad():
        out = memory_set_launch.recalled(columns[..., :96], columns[..., 96:], memory)
    assert (out.shape, out.dtype) == ((3, 37, 32), dtype)
    assert [each.STEP for each in launches] == [0, 1, 2]
    for each in launches:
        assert each.grid == (6, 2)  # heads of a batch, blocks of 32 tokens
        assert constants(each, "D F K STEPS SPAN") == [16, 16, 4, 2, 64]
        assert constants(each, "MOMENTUM FORGETTING PRECISION") == [False, True, precision]
        *_, gradients, given, rows, heads = each.given[:-4]
        assert gradients.shape == (6, 2, 2, 2, 256)
        assert (given.shape, rows, heads) == (out.shape, 37, 2)
        assert each.given[-4:] == (37 * 104, 104, 37 * 104, 104)


def test_what_is_compiled_knows_what_a_set_gives() -> None:
    memory = NeuralMemory(32, MemoryConfig(heads=2, depth=2, features=16), causal=False)
    with torch.device("meta"):
        pairs, logits = torch.empty(3, 37, 96), torch.empty(3, 37, 8)
    out = memory_set_launch.recalled(pairs, logits, memory.to("meta"))
    assert (out.shape, out.device.type) == ((3, 37, 32), "meta")


def test_a_token_attends_by_one_program_a_head(install: Any) -> None:
    launches = install("serving.fused_step_cuda", "attend_kernel")
    keys, values = normal(2, 3, 4, 9, 16)
    seen = torch.tensor(5)
    cache = AttentionCache(keys, values, torch.arange(9) < 5, seen, prefix=0, room=0)
    place = Place(seen[None], normal(8, 1).T, normal(8, 1).T, torch.zeros(1, 9))
    columns, out = normal(3, 1, 300), torch.empty(3, 64)
    fused_step_launch.attend_next(columns[..., :192], cache, place, out)
    (launch,) = launches
    assert (launch.grid, launch.D) == ((12,), 16)
    assert launch.given[-3:] == (9, 4, 300)
    assert all(each.is_contiguous() for each in launch.given[1:-3])
    assert launch.given[7].data_ptr() == out.data_ptr()


STATES = {
    "linear": (1, LinearState(*normal(2, 6, 16, 16)), [2, 3]),
    "deep": (2, DeepState(*normal(2, 6, 16, 32), *normal(2, 6, 32, 16), *normal(1, 6, 16, 32),
                          *normal(1, 6, 32, 16)), [0, 1, 2, 3, 4, 5]),
}  # fmt: skip


@pytest.mark.parametrize("asking", [False, True])
@pytest.mark.parametrize("name", STATES)
def test_a_token_recalls_by_one_program_a_head(install: Any, name: str, asking: bool) -> None:
    launches = install("serving.fused_step_cuda", "recall_kernel")
    depth, state, places = STATES[name]
    config = MemoryConfig(heads=2, depth=depth, features=32, chunk=8, forgetting=False)
    memory, kinds = NeuralMemory(32, config, causal=True), 1 if asking else 3
    tail, columns = normal(3, 3, 32 * kinds), normal(3, 1, 300)
    cache = QueryCache(state, tail) if asking else MemoryCache(state, tail)
    pairs, logits = columns[..., 100 : 100 + 32 * kinds], columns[..., 250:]
    out = torch.empty(3, 32)
    with torch.no_grad():
        fused_step_launch.recall_next(pairs, logits, memory, cache, out)
    (launch,) = launches
    assert launch.grid == (6,)
    assert constants(launch, "D F K") == [16, 32 if depth == 2 else 16, 4]
    assert constants(launch, "WRITES DEEP") == [not asking, depth == 2]
    assert constants(launch, "MOMENTUM FORGETTING") == [True, False]
    assert launch.given[-4:] == (2, 300, 32 * kinds, 8)
    layers = launch.given[6:12]
    assert all(
        layers[at].data_ptr() == each.data_ptr() for at, each in zip(places, state, strict=True)
    )
    assert launch.given[5].data_ptr() == out.data_ptr()
