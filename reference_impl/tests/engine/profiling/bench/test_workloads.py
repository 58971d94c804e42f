"""Each workload is timed as it is used: alone, without gradients, eager and compiled."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reference_reasoner.engine.config.fields import overlay
from reference_reasoner.engine.profiling.bench.workloads import compiled_blocks, timings
from reference_reasoner.engine.profiling.measured.machine import Limits
from reference_reasoner.engine.training.device import checkpoint_activations
from reference_reasoner.engine.training.task import Workload

from ...toy.task import FEATURES, ToyNet, ToyTask, toy
from ..fakes import fake_cpu, fake_gpu
from ..measured.test_inference import Watched, watched_task
from ..models import Convolution, Shared, Stack

FEW = Limits(warm_up=1, samples=2)


class Worker(ToyTask):
    """Asks its model for two outputs, and keeps them."""

    def __init__(self, config: Any, model: nn.Module | None = None) -> None:
        super().__init__(config)
        self.model = model
        self.outputs: list[Tensor] = []

    def build_model(self) -> nn.Module:
        return self.model or super().build_model()

    def workloads(self, model: nn.Module) -> Sequence[Workload]:
        def call(rounds: int) -> object:
            assert not model.training
            assert torch.is_inference_mode_enabled()
            point = torch.linspace(-1, 1, FEATURES)[None]
            latent = torch.zeros(1, self.config.model.width)
            for _ in range(rounds):
                latent, logits, _ = model(point, latent)
            self.outputs.append(logits)
            return logits

        return [
            Workload(name="thrice", description="three rounds", run=lambda: call(3)),
            Workload(name="once", description="one round", run=lambda: call(1)),
        ]


class Backend:
    """Counts the graphs that it is given, and leaves them as they are."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        return graph.forward


def test_a_plain_task_is_timed_by_one_forward_call() -> None:
    machine = fake_gpu(tick_s=0.0, compiler=Backend())
    model = Watched(machine.clock)
    (row,), failure = timings(watched_task(model), machine, FEW)
    assert model.seen == [(1, False, True, False)] * 3
    assert failure is None
    assert (row["workload"], row["mode"]) == ("forward", "eager")
    assert row["description"] == "one forward call of example_input()"
    assert row["latency_batch1_p50_ms"] == pytest.approx(100.0)
    assert machine.compiler is not None
    assert machine.compiler.graphs == 0  # type: ignore[union-attr]


def test_a_forward_call_is_compiled_if_the_config_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, dynamic: model)
    machine = fake_cpu()
    task = watched_task(Watched(machine.clock), **{"runtime.compile": True})
    (row,), _ = timings(task, machine, FEW)
    assert (row["workload"], row["mode"]) == ("forward", "compiled")


def test_a_tasks_workloads_are_timed_in_the_order_given() -> None:
    task = Worker(toy())
    rows, failure = timings(task, fake_gpu(), FEW)
    assert failure is None
    assert [(row["workload"], row["description"], row["mode"]) for row in rows] == [
        ("thrice", "three rounds", "eager"),
        ("once", "one round", "eager"),
    ]
    assert all(row["latency_batch1_samples"] == 2 for row in rows)
    assert [row["inference_batch1_peak_allocated_mib"] for row in rows] == [100.0, 101.0]
    assert not any(output.requires_grad for output in task.outputs)


def test_workloads_run_in_the_precision_of_the_config() -> None:
    task = Worker(overlay(toy(), {"training.precision": "bf16"}, "test"))
    timings(task, fake_gpu(), FEW)
    assert {output.dtype for output in task.outputs} == {torch.bfloat16}


@pytest.mark.parametrize("recomputed", [False, True])
def test_with_compiled_blocks_outputs_are_the_same(recomputed: bool) -> None:
    backend = Backend()
    changes = {"training.activation_checkpointing": recomputed}
    task = Worker(overlay(toy(), changes, "test"))
    rows, failure = timings(task, fake_gpu(compiler=backend), FEW)
    assert failure is None
    assert [(row["workload"], row["mode"]) for row in rows[2:]] == [
        ("thrice", "blocks compiled"),
        ("once", "blocks compiled"),
    ]
    assert backend.graphs == 1  # one block, however often it is called
    assert all(row["first_calls_s"] > 0 for row in rows[2:])
    eager, compiled = task.outputs[:6], task.outputs[6:]
    assert len(compiled) == 2 + 6  # the first calls, and those that are timed
    thrice, once = eager[0], eager[3]
    for output, expected in zip(compiled, [thrice, once] + [thrice] * 3 + [once] * 3, strict=True):
        torch.testing.assert_close(output, expected)


def test_each_block_has_a_graph_of_its_own_and_loses_it() -> None:
    model, tokens = Stack(blocks=3).eval(), torch.randn(1, 16, 32)
    backend = Backend()
    with torch.inference_mode():
        expected = model(tokens)
        with compiled_blocks(model, backend):
            torch.testing.assert_close(model(tokens), expected)
            assert 1 <= backend.graphs <= 3
            graphs = backend.graphs
            model(tokens)
            assert backend.graphs == graphs
        torch.testing.assert_close(model(tokens), expected)
        assert backend.graphs == graphs
        with compiled_blocks(model, backend):  # the caches are empty
            model(tokens)
        assert backend.graphs == 2 * graphs


def test_a_block_that_is_called_again_and_again_is_compiled_once() -> None:
    model, backend = Shared().eval(), Backend()
    checkpoint_activations(model)
    with torch.inference_mode(), compiled_blocks(model, backend):
        model(torch.randn(1, 8))
    assert backend.graphs == 1


def test_a_model_without_blocks_is_timed_eager_only() -> None:
    class Plain(ToyNet):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.blocks = nn.Sequential(*self.blocks)  # type: ignore[assignment]

    backend = Backend()
    task = Worker(toy(), Plain(toy().model))
    rows, failure = timings(task, fake_gpu(compiler=backend), FEW)
    assert [row["mode"] for row in rows] == ["eager", "eager"]
    assert (failure, backend.graphs) == (None, 0)
    with compiled_blocks(Convolution(), backend):
        pass


def test_blocks_that_do_not_compile_leave_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    resets: list[str] = []

    def broken(graph: Any, inputs: Any) -> Any:
        raise ValueError("no C compiler\nand more")

    really = torch.compiler.reset
    monkeypatch.setattr(torch.compiler, "reset", lambda: (resets.append("reset"), really()))
    task = Worker(toy())
    rows, failure = timings(task, fake_gpu(compiler=broken), FEW)
    assert [row["mode"] for row in rows] == ["eager", "eager"]
    assert failure is not None
    assert "no C compiler" in failure
    assert "\n" not in failure
    assert resets == ["reset"]


def test_a_python_that_torch_cannot_compile_for_is_told_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unsupported(model: nn.Module, **_: Any) -> nn.Module:
        raise RuntimeError("torch.compile is not supported here")

    monkeypatch.setattr(torch, "compile", unsupported)
    rows, failure = timings(Worker(toy()), fake_gpu(compiler="eager"), FEW)
    assert [row["mode"] for row in rows] == ["eager", "eager"]
    assert failure == "RuntimeError: torch.compile is not supported here"
