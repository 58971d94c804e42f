"""`doctor --model` passes a healthy model and finds each fault that was planted, one by one."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reference_reasoner.engine.config.fields import overlay
from reference_reasoner.engine.training.task import LossOutput, Row
from reference_reasoner.engine.verification import model_checks
from reference_reasoner.engine.verification.doctor import FailedError, Outcome
from reference_reasoner.engine.verification.model_checks import (
    checks_of_model,
    compiler,
    numbers_in,
    sees_the_future,
)

from ..toy.command_line import main
from ..toy.runs import run_toy
from ..toy.task import ToyNet, ToyTask, toy

ALL = ["gradients", "finite", "rows alone", "overfit", "eval mode", "compiled"]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace instead of compile: the compiler takes its time."""
    monkeypatch.setattr(model_checks, "compiler", lambda: ("aot_eager", "traced"))


def see(name: str, task_type: type[ToyTask] = ToyTask, **overrides: Any) -> Outcome:
    task = task_type(overlay(toy(), overrides, "test"))
    (item,) = (item for item in checks_of_model(task) if item.name == name)
    return item.outcome()


def fault(name: str, task_type: type[ToyTask]) -> str:
    outcome = see(name, task_type)
    assert outcome.state == "failed", outcome
    return outcome.text


def with_net(net: type[ToyNet]) -> type[ToyTask]:
    class Planted(ToyTask):
        def build_model(self) -> nn.Module:
            return net(self.config.model)

    return Planted


@pytest.mark.parametrize("use_carry", [True, False])
def test_a_healthy_model_passes_everything(use_carry: bool) -> None:
    items = checks_of_model(ToyTask(overlay(toy(), {"use_carry": use_carry}, "test")))
    outcomes = [item.outcome() for item in items]
    assert [outcome.name for outcome in outcomes] == ALL
    assert [outcome for outcome in outcomes if outcome.state != "passed"] == []


# --- Gradients and numbers --------------------------------------------------------------------


class Unused(ToyNet):
    """Has a layer that nothing calls, and one whose output is thrown away."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.forgotten = nn.Linear(2, 2)
        self.cut = nn.Linear(config.width, config.width)

    def forward(self, point: Tensor, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return super().forward(point, latent + 0 * self.cut(latent).detach())


class FromZero(ToyNet):
    """Its head starts at zero, so that no gradient passes it at the first step."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)


def test_a_parameter_without_a_gradient() -> None:
    said = fault("gradients", with_net(Unused))
    wanted = "forgotten.weight, forgotten.bias, cut.weight, cut.bias"
    assert said == f"no gradient reaches {wanted}"


def test_a_projection_that_starts_at_zero_is_no_fault() -> None:
    assert see("gradients", with_net(FromZero)).state == "passed"


class Infinite(ToyNet):
    """One number is not finite from the start."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.embed.bias.data[0] = float("inf")


class Overflowing(ToyTask):
    """The loss is not finite."""

    def loss(self, model: nn.Module, batch: Any, carry: Any, keys: Any) -> LossOutput:
        output = super().loss(model, batch, carry, keys)
        return LossOutput(terms={k: v * float("inf") for k, v in output.terms.items()})


class RootOfNothing(ToyTask):
    """The loss is finite, and its gradient is not."""

    def loss(self, model: nn.Module, batch: Any, carry: Any, keys: Any) -> LossOutput:
        output = super().loss(model, batch, carry, keys)
        zero = (output.terms["label"] * 0).sqrt()
        return LossOutput(terms={**output.terms, "label": output.terms["label"] + zero})


def test_numbers_that_are_not_finite() -> None:
    assert fault("finite", with_net(Infinite)) == "embed.bias is not finite at the start"
    assert fault("finite", Overflowing) == "the first loss is inf"
    assert "the gradient of embed.weight is not finite" in fault("finite", RootOfNothing)


# --- Rows -------------------------------------------------------------------------------------


class Mixing(ToyNet):
    """Takes the mean over the batch away."""

    def forward(self, point: Tensor, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return super().forward(point - point.mean(0), latent)


class Normalised(ToyNet):
    """A batch norm is no fault: in eval mode it does not look at the batch."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.blocks = nn.ModuleList([nn.BatchNorm1d(config.width)])


class Positional(ToyNet):
    """Knows at which place of the batch a row stands."""

    def forward(self, point: Tensor, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        place = torch.arange(len(point), dtype=point.dtype)[:, None] * (len(point) > 1)
        return super().forward(point + place * 0 + (place - place.flip(0)).abs() * 0.1, latent)


class Silent(ToyTask):
    """Its predictions hold no number."""

    def predict(self, model: nn.Module, batch: Any) -> list[Row]:
        return [Row(example_id=0, target="a", output="a") for _ in batch["label"]]


def test_a_layer_that_mixes_rows() -> None:
    said = fault("rows alone", with_net(Mixing))
    assert said.startswith("row 0 alone differs by ")
    assert "in a batch of 8: the model mixes rows in eval mode" in said
    assert see("rows alone", with_net(Normalised)).state == "passed"
    assert fault("rows alone", with_net(Positional)).startswith("row 0 alone differs by")
    assert "no number to compare" in fault("rows alone", Silent)


def test_numbers_of_an_output() -> None:
    assert numbers_in({"a": [1, True], "b": {"c": 0.5}, "d": "text", "e": None}) == [1.0, 1.0, 0.5]


# --- Fitting, eval mode, compiling ------------------------------------------------------------


class Blind(ToyNet):
    """Does not see its input."""

    def forward(self, point: Tensor, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return super().forward(point * 0, latent * 0)


class Restless(ToyNet):
    """Draws random numbers in eval mode, too."""

    def forward(self, point: Tensor, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return super().forward(nn.functional.dropout(point, 0.5, training=True), latent)


class TwoFaced(ToyNet):
    """Computes something else once it is compiled."""

    def forward(self, point: Tensor, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return super().forward(point * (2 if torch.compiler.is_compiling() else 1), latent)


def test_a_model_that_cannot_fit_one_batch() -> None:
    said = fault("overfit", with_net(Blind))
    assert said.startswith("one batch cannot be fitted: its loss only falls from ")
    assert "at learning rate 0.01 and from " in said
    assert said.endswith("at learning rate 0.003 in 300 steps")


def test_random_numbers_in_eval_mode() -> None:
    assert "is dropout left on?" in fault("eval mode", with_net(Restless))


def test_a_compiled_model_that_differs() -> None:
    assert fault("compiled", with_net(TwoFaced)).startswith("traced, the loss differs by ")


def test_a_compiler_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_checks.shutil, "which", lambda name: f"/bin/{name}")
    assert compiler() == ("inductor", "compiled")
    monkeypatch.setattr(model_checks.shutil, "which", lambda name: None)
    assert compiler()[0] == "aot_eager"


# --- Causality --------------------------------------------------------------------------------


class Running(nn.Module):
    """[B, T] integers and [B, T, 2] numbers -> [B, T, 3]: a running mean, `ahead` positions on."""

    def __init__(self, ahead: int = 0, leak: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(4, 3)
        self.linear = nn.Linear(2, 3)
        self.ahead = ahead
        self.leak = leak

    def forward(self, token: Tensor, number: Tensor) -> Tensor:
        hidden = self.embed(token) + self.linear(number)
        seen = hidden.cumsum(1).roll(-self.ahead, 1)
        return seen + self.leak * (number.sum() - number.sum().detach())


SEQUENCE = (torch.full((1, 6), 3), torch.zeros(1, 6, 2))


def test_a_model_that_does_not_look_ahead() -> None:
    assert sees_the_future(Running(), SEQUENCE) is None
    assert sees_the_future(Running(), (*SEQUENCE[:1], SEQUENCE[1])) is None
    only_tokens = nn.Sequential(nn.Embedding(4, 3))
    assert sees_the_future(only_tokens, SEQUENCE[:1]) is None


def test_looking_ahead_shows_in_values() -> None:
    said = sees_the_future(Running(ahead=1), SEQUENCE)
    assert said is not None
    assert said.startswith("the output at position 0 changes by ")
    assert said.endswith("with inputs after position 0: it sees the future")


def test_a_leak_that_shows_in_gradients_only() -> None:
    said = sees_the_future(Running(leak=1.0), SEQUENCE)
    assert said is not None
    assert said.startswith("outputs before position 3 have a gradient into later inputs")


class Flat(nn.Module):
    """[B, T] -> [B, T]: the running sum, or the whole of it."""

    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, number: Tensor, mask: Tensor) -> Tensor:
        summed = (number * mask).cumsum(1)
        return summed[:, -1:].expand_as(summed) if self.whole else summed


def test_outputs_without_a_width_and_masks() -> None:
    given = (torch.zeros(1, 4), torch.ones(1, 4, dtype=torch.bool))
    assert sees_the_future(Flat(whole=False), given) is None
    assert "at position 0 changes" in str(sees_the_future(Flat(whole=True), given))


def test_without_positions_nothing_can_be_said() -> None:
    with pytest.raises(FailedError, match="no second dimension of two or more"):
        sees_the_future(Running(), (torch.zeros(1, 1),))
    with pytest.raises(FailedError, match="no output has 6 positions"):
        sees_the_future(nn.Linear(6, 2), (torch.zeros(1, 6),))


class Sequential(ToyTask):
    """Claims that its model is causal."""

    causal = True
    ahead = 0

    def build_model(self) -> nn.Module:
        return Running(self.ahead)

    def example_input(self) -> Any:
        return SEQUENCE


class Ahead(Sequential):
    """Wrongly so."""

    ahead = 2


def test_a_task_that_says_causal_is_held_to_it() -> None:
    assert see("causality", Sequential).state == "passed"
    assert "it sees the future" in fault("causality", Ahead)


# --- The command ------------------------------------------------------------------------------


def test_the_command(project: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run_toy(project / "runs" / "0001")
    assert main(["doctor", "--model"]) == 0
    assert main(["doctor", "0001", "--model"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0].strip() for line in said] == [*ALL, *ALL]
