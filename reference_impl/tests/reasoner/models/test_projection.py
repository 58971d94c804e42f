"""A projection is nn.Linear, whichever library computes it."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from reference_reasoner.reasoner.models.layers import projection
from reference_reasoner.reasoner.models.layers.projection import Projection, serves


def _pair(*, bias: bool) -> tuple[Projection, nn.Linear]:
    torch.manual_seed(0)
    ours, plain = Projection(48, 40, bias=bias), nn.Linear(48, 40, bias=bias)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def _found(layer: nn.Linear, x: Tensor) -> list[Tensor]:
    """The result, its gradients, and gradients of one of those."""
    x = x.clone().requires_grad_()
    out = layer(x)
    leaves = [x, *layer.parameters()]
    first = torch.autograd.grad(out.sin().sum(), leaves, create_graph=True)
    second = torch.autograd.grad(first[0].square().sum(), leaves, allow_unused=True)
    return [out, *first, *(each for each in second if each is not None)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1100, 48), (4, 275, 48)])
def test_results_and_gradients_are_those_of_a_linear_layer(
    shape: tuple[int, ...], bias: bool
) -> None:
    ours, plain = _pair(bias=bias)
    x = torch.randn(*shape)
    assert serves(x, ours.weight)
    both = _found(ours, x), _found(plain, x)
    assert len(both[0]) == len(both[1]) >= 5
    for found, expected in zip(*both, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_only_what_has_a_gradient_gets_one() -> None:
    ours, _ = _pair(bias=False)
    ours(torch.randn(1100, 48)).sum().backward()
    assert ours.weight.grad is not None
    x = torch.randn(1100, 48, requires_grad=True)
    ours.weight.requires_grad_(False)
    (gradient,) = torch.autograd.grad(ours(x).sum(), x)
    torch.testing.assert_close(gradient, ours.weight.sum(0).expand_as(x), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:TF32")  # which the flag is not about
def test_what_onednn_is_of_no_use_for_is_computed_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, plain = _pair(bias=True)
    x = torch.randn(1100, 48)
    monkeypatch.setattr(projection, "_product", lambda *_: pytest.fail("given to oneDNN"))
    assert torch.equal(ours(x[:10]), plain(x[:10]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours(x).dtype == torch.bfloat16
    with torch.backends.mkldnn.flags(enabled=False):
        torch.testing.assert_close(ours(x), plain(x))
    assert ours.double()(x.double()).dtype == torch.float64
    assert not serves(x.to("meta"), ours.weight)


def test_it_compiles_without_a_break() -> None:
    ours, plain = _pair(bias=True)
    x = torch.randn(1100, 48, requires_grad=True)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), plain(x), rtol=1e-4, atol=1e-4)
    found, expected = (
        torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])
        for layer in (compiled, plain)
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


def test_its_work_is_counted() -> None:
    ours, plain = _pair(bias=False)
    x = torch.randn(1100, 48, requires_grad=True)
    counts = []
    for layer in (ours, plain):
        with FlopCounterMode(display=False) as counter:
            layer(x).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 3 * 2 * 1100 * 48 * 40
