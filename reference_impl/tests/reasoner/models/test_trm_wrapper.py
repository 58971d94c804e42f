"""The recursion equals a loop written by hand, and only its last part has a gradient."""

import pytest
import torch
from torch import Tensor, nn

from reference_reasoner.reasoner.models.layers.initial_weights import truncated_normal
from reference_reasoner.reasoner.models.trm_wrapper import (
    InitialStates,
    RecursionConfig,
    States,
    deep_recursion,
)

WIDTH = 6
CONFIG = RecursionConfig(latent_steps=2, recursions=3)


class Counting(nn.Module):
    """tanh of a linear map; knows how often it was called, and how often with a graph."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(WIDTH, WIDTH, dtype=torch.float64)
        self.calls = 0
        self.graphs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.graphs += torch.is_grad_enabled()
        return self.linear(x).tanh()


def given() -> tuple[Tensor, States]:
    generator = torch.Generator().manual_seed(1)
    question, answer, latent = torch.randn(
        3, 2, 4, WIDTH, generator=generator, dtype=torch.float64
    ).unbind(0)
    return question, States(answer, latent)


def by_hand(net: Counting, question: Tensor, states: States) -> States:
    """Three times: twice the latent, once the answer; detached before the last."""
    answer, latent = states
    for recursion in range(3):
        if recursion == 2:
            answer, latent = answer.detach(), latent.detach()
        latent = net(question + answer + latent)
        latent = net(question + answer + latent)
        answer = net(answer + latent)
    return States(answer, latent)


def test_values_and_gradients_are_those_of_a_loop_by_hand() -> None:
    question, states = given()
    question.requires_grad_(True)
    found, expected = [], []
    for results, run in ((found, deep_recursion), (expected, None)):
        net = Counting()
        given_to = (lambda net=net: net, question, states, CONFIG)
        told = by_hand(net, question, states) if run is None else run(*given_to)
        (told.answer.sum() + told.latent.square().sum()).backward()
        assert question.grad is not None
        results += [told.answer, told.latent, question.grad.clone()]
        results += [parameter.grad for parameter in net.parameters()]
        question.grad = None
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-14)


def test_only_the_last_recursion_builds_a_graph() -> None:
    net = Counting()
    deep_recursion(lambda: net, *given(), CONFIG)
    assert (net.calls, net.graphs) == (CONFIG.applications, 3) == (9, 3)


def test_no_gradient_reaches_the_states_that_came_in() -> None:
    question, states = given()
    for state in states:
        state.requires_grad_(True)
    deep_recursion(Counting, question, states, CONFIG).answer.sum().backward()
    assert states.answer.grad is None
    assert states.latent.grad is None
    only = RecursionConfig(latent_steps=1, recursions=1)
    deep_recursion(Counting, question, states, only).answer.sum().backward()
    assert states.latent.grad is not None
    detached = states.detach()
    assert not detached.answer.requires_grad
    assert not detached.latent.requires_grad


def test_what_is_kept_for_backward_does_not_grow_with_the_recursions() -> None:
    kept = []
    for recursions in (1, 5):
        seen: list[Tensor] = []

        def pack(tensor: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(tensor)
            return tensor

        config = RecursionConfig(latent_steps=2, recursions=recursions)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            deep_recursion(Counting, *given(), config)
        kept.append(len(seen))
    assert kept[0] == kept[1]


def test_initial_states_are_fixed_and_alike_for_every_token() -> None:
    torch.manual_seed(0)
    initial = InitialStates(512)
    assert list(initial.parameters()) == []
    assert set(initial.state_dict()) == {"answer", "latent"}
    like = torch.zeros(2, 3, 512, dtype=torch.float64)
    answer, latent = initial(like)
    assert answer.shape == latent.shape == like.shape
    assert answer.dtype == torch.float64
    assert torch.equal(answer[0, 0], answer[1, 2])
    assert not torch.equal(answer, latent)


@pytest.mark.parametrize("std", [1.0, 0.02])
def test_the_cut_off_normal_has_the_deviation_that_was_asked_for(std: float) -> None:
    torch.manual_seed(0)
    drawn = truncated_normal(torch.empty(200_000), std=std)
    assert drawn.std().item() == pytest.approx(std, rel=0.01)
    assert drawn.abs().max().item() == pytest.approx(2 / 0.87962566 * std, rel=0.01)


def test_a_training_is_shallow_early_and_deep_late() -> None:
    config = RecursionConfig(latent_steps=2, recursions=3, shallow_share=0.5)
    taken = [config.in_training(step, 10).recursions for step in range(1, 11)]
    assert taken == [1] * 5 + [3] * 5
    assert config.in_training(1, 10).latent_steps == 2
    always = RecursionConfig(recursions=3)
    assert [always.in_training(step, 10) for step in (1, 10)] == [always, always]
    assert RecursionConfig(shallow_share=1.0).in_training(10, 10).recursions == 1


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_is_one(share: float) -> None:
    with pytest.raises(ValueError, match=r"shallow_share must be in \[0, 1\], got"):
        RecursionConfig(shallow_share=share)


@pytest.mark.parametrize("name", ["latent_steps", "recursions"])
def test_what_is_never_applied_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"model\.{name} must be at least 1, got 0"):
        RecursionConfig(**{name: 0})
