"""A block that is compiled on a GPU goes over chunks by Python, and is compiled around that."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from reference_reasoner.reasoner.models.memory import routes

from .reasoners import FIRST_PASS, reasoner, shallow, tokens_of

CONFIG = shallow(FIRST_PASS["deep_once"])


@pytest.fixture(autouse=True)
def _in_torch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """As on a GPU, where no operator goes over chunks."""
    monkeypatch.setattr(routes, "by_chunk_serves", lambda q: False)
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own making
        yield
    torch.compiler.reset()


def compiled(nodes: list[int]) -> Any:
    """A model whose blocks are compiled; how many nodes each of their graphs has."""

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        nodes.append(len(graph.graph.nodes))
        return graph.forward

    model = reasoner(CONFIG)
    for block in model.backbone.blocks:
        block.compile(dynamic=False, backend=backend)
    return model


@pytest.mark.parametrize("kernels", [False, True])
def test_by_kernels_compiled_code_does_not_grow_with_chunks(
    kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "on_kernels_gpu", lambda q: kernels)
    found = []
    for length in (8, 12):
        torch.compiler.reset()
        nodes: list[int] = []
        with torch.no_grad():
            compiled(nodes)(tokens_of(1, length))
        found.append(sum(nodes))
    assert (found[0] == found[1]) == kernels


def test_values_and_gradients_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome(model: Any) -> list[Tensor]:
        logits, parameters = model(tokens_of(2, 8)).logits, list(model.parameters())
        total = logits.sin().sum()
        return [logits, *torch.autograd.grad(total, parameters, materialize_grads=True)]

    expected = outcome(reasoner(CONFIG))
    monkeypatch.setattr(routes, "on_kernels_gpu", lambda q: True)
    for one, other in zip(outcome(compiled([])), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)
