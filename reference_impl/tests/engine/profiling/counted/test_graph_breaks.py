"""Graph breaks are counted, and nothing else is heard of them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reference_reasoner.engine.errors import RefusedInputError
from reference_reasoner.engine.profiling.counted.quantities import graph_breaks
from reference_reasoner.engine.training.task import Task

from ...toy.task import ToyTask, toy
from ..models import Convolution, Normed, Peeking, Recurrent, Shared, task_of


class Breaking(nn.Module):
    """Leaves the graph `breaks` times."""

    def __init__(self, breaks: int) -> None:
        super().__init__()
        self.breaks = breaks
        self.linear = nn.Linear(4, 4)

    def forward(self, point: Tensor) -> Tensor:
        hidden = self.linear(point)
        if self.breaks > 0:
            torch._dynamo.graph_break()
            hidden = hidden * 2
        if self.breaks > 1:
            torch._dynamo.graph_break()
            hidden = hidden * 3
        return hidden


@pytest.mark.parametrize("breaks", [0, 1, 2])
def test_breaks_count(breaks: int) -> None:
    assert graph_breaks(task_of(lambda: Breaking(breaks), (1, 4))) == breaks


@pytest.mark.parametrize(
    ("build", "shape", "breaks"),
    [
        (Recurrent, (1, 5, 8), 1),  # torch.compile leaves an LSTM alone as a whole
        (nn.Identity, (1, 4), 0),
        (Normed, (1, 4), 0),
        (Convolution, (1, 3, 10, 10), 0),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_model_without_a_graph_is_one_break_or_nothing(
    build: Any, shape: tuple[int, ...], breaks: int
) -> None:
    assert graph_breaks(task_of(build, shape)) == breaks


def test_nothing_is_said_and_no_random_number_is_spent(capfd: pytest.CaptureFixture[str]) -> None:
    state = torch.random.get_rng_state()
    assert graph_breaks(task_of(Peeking, (1, 4))) == 1
    assert torch.equal(state, torch.random.get_rng_state())
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_followed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = type("Silent", (ToyTask,), {"example_input": Task.example_input})
    with pytest.raises(RefusedInputError, match="write its example_input"):
        graph_breaks(silent(toy()))

    def explain(model: nn.Module) -> Any:
        raise RuntimeError("dynamo gave up\nat length")

    monkeypatch.setattr(torch._dynamo, "explain", explain)
    with pytest.raises(RefusedInputError, match=r"cannot follow .*: RuntimeError: dynamo gave up$"):
        graph_breaks(task_of(Shared, (1, 8)))
