"""The trainer's smaller parts: schedule, optimizer, EMA, hashes, device, guards, progress."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reference_reasoner.engine.config.run_config import RuntimeConfig, TrainingConfig
from reference_reasoner.engine.errors import RefusedInputError, RunFailedError
from reference_reasoner.engine.training import device, parallel
from reference_reasoner.engine.training.checkpoint import state_sha256, weights_sha256
from reference_reasoner.engine.training.guards import EarlyStopping, NonFiniteGuard
from reference_reasoner.engine.training.optim import (
    Ema,
    build_optimizer,
    learning_rate,
    load_optimizer_tensors,
    optimizer_tensors,
)
from reference_reasoner.engine.training.progress import Progress
from reference_reasoner.engine.training.task import StepKeys, Task

from ..toy.task import ToyModelConfig, ToyNet, toy


def rates(**changes: Any) -> list[float]:
    training = TrainingConfig(steps=10, learning_rate=1.0, **changes)
    return [learning_rate(step, training) for step in range(1, 11)]


def test_cosine_rises_and_falls_to_its_final_ratio() -> None:
    found = rates(warmup_steps=2, final_learning_rate_ratio=0.1)
    assert found[:2] == [0.5, 1.0]
    assert found[5] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 4 / 8)))
    assert found[-1] == pytest.approx(0.1)
    assert found[1:] == sorted(found[1:], reverse=True)


def test_wsd_is_flat_and_then_falls_linearly() -> None:
    found = rates(warmup_steps=1, schedule="wsd", decay_fraction=0.4)
    assert found == pytest.approx([1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])


def test_constant_stays() -> None:
    assert rates(warmup_steps=0, schedule="constant") == [1.0] * 10


def test_weight_decay_leaves_biases_alone() -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), TrainingConfig(weight_decay=0.3))
    found = {g["params"][0].ndim: g["weight_decay"] for g in optimizer.param_groups}
    assert found == {2: 0.3, 1: 0.0}


def test_optimizer_state_goes_by_parameter_name() -> None:
    model, other = nn.Linear(2, 1), nn.Linear(2, 1)
    training = TrainingConfig()
    first, second = build_optimizer(model, training), build_optimizer(other, training)
    model(torch.ones(1, 2)).sum().backward()
    first.step()
    saved = optimizer_tensors(first, model)
    assert "weight/exp_avg_sq" in saved
    load_optimizer_tensors(second, other, saved)
    again = optimizer_tensors(second, other)
    torch.testing.assert_close(again, saved, rtol=0, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_the_optimizer_is_fused_and_goes_on_where_it_was() -> None:
    model = nn.Linear(2, 1).cuda()
    other = copy.deepcopy(model)
    first, second = (build_optimizer(each, TrainingConfig()) for each in (model, other))
    assert all(group["fused"] for group in first.param_groups)
    for _ in range(2):
        model(torch.ones(1, 2).cuda()).sum().backward()
        first.step()
    other.load_state_dict(model.state_dict())
    load_optimizer_tensors(second, other, optimizer_tensors(first, model))
    for each, optimizer in ((model, first), (other, second)):
        each.zero_grad()
        each(torch.ones(1, 2).cuda()).sum().backward()
        optimizer.step()
    assert torch.equal(model.weight, other.weight)


def test_on_a_cpu_the_optimizer_is_as_torch_makes_it() -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), TrainingConfig())
    assert not any(group["fused"] for group in optimizer.param_groups)


def test_ema_copies_what_is_no_float_and_lends_itself() -> None:
    model = nn.BatchNorm1d(2)
    ema = Ema(model, 0.5)
    model.num_batches_tracked += 4
    with torch.no_grad():
        model.weight += 2
    ema.update(model)
    assert (int(ema.tensors["num_batches_tracked"]), ema.tensors["weight"].tolist()) == (4, [2, 2])
    with ema.applied(model):
        assert model.weight.tolist() == [2, 2]
    assert model.weight.tolist() == [3, 3]


def test_hashes_see_name_type_shape_and_bytes() -> None:
    tensors = [
        {"a": torch.zeros(4)},
        {"b": torch.zeros(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.zeros(4, dtype=torch.int32)},
        {"a": torch.tensor([0.0, 0, 0, 1e-45])},
    ]
    assert len({weights_sha256(each) for each in tensors}) == len(tensors)
    assert weights_sha256({"a": torch.zeros(4).bfloat16()})
    two = {"a": torch.zeros(1), "b": torch.ones(1)}
    assert weights_sha256(two) == weights_sha256(dict(reversed(two.items())))
    strided = torch.arange(6.0).reshape(2, 3).T
    assert weights_sha256({"a": strided}) == weights_sha256({"a": strided.contiguous()})
    assert state_sha256({"m": two}, {"step": 1}) != state_sha256({"m": two}, {"step": 2})
    assert state_sha256({"m": two}, {}) != state_sha256({"n": two}, {})


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device.choose_device(RuntimeConfig()).type == "cpu"
    with pytest.raises(RefusedInputError, match=r"runtime\.device is 'cuda'"):
        device.choose_device(RuntimeConfig(device="cuda"))


def test_autocast_and_scaler_follow_the_precision() -> None:
    cpu = torch.device("cpu")
    made = {}
    for precision in ("fp32", "bf16", "fp16"):
        training = TrainingConfig(precision=precision)  # type: ignore[arg-type]
        with device.autocast(cpu, training):
            made[precision] = nn.Linear(2, 2)(torch.ones(1, 2)).dtype
        assert (device.build_scaler(cpu, training) is not None) == (precision == "fp16")
    assert made == {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def test_recomputed_activations_give_the_same_gradients_and_store_less() -> None:
    def saved_bytes_and_gradients(recompute: bool) -> tuple[int, list[torch.Tensor]]:
        torch.manual_seed(0)
        model = ToyNet(ToyModelConfig(width=64, dropout=0.5))
        model.blocks.extend(nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(3))
        if recompute:
            device.checkpoint_activations(model)
        names = set(model.state_dict())
        assert names == set(ToyNet(ToyModelConfig(width=64)).state_dict()) | names
        saved = 0

        def note(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal saved
            saved += tensor.nbytes
            return tensor

        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            _, logits, _ = model(torch.ones(32, 6), torch.zeros(32, 64))
        logits.sum().backward()
        return saved, [p.grad for p in model.parameters() if p.grad is not None]

    plain_bytes, plain = saved_bytes_and_gradients(False)
    less_bytes, recomputed = saved_bytes_and_gradients(True)
    assert less_bytes < plain_bytes
    torch.testing.assert_close(recomputed, plain, rtol=0, atol=0)


def test_recomputation_is_idle_without_a_graph_and_needs_blocks() -> None:
    model = ToyNet(ToyModelConfig())
    device.checkpoint_activations(model)
    with torch.no_grad():
        model(torch.ones(1, 6), torch.zeros(1, 8))
    with pytest.raises(RefusedInputError, match=r"no blocks in an nn\.ModuleList"):
        device.checkpoint_activations(nn.Linear(1, 1))


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parallel.current().world_size == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RefusedInputError, match="WORLD_SIZE is 2"):
        parallel.current()


def test_patience_counts_from_the_best() -> None:
    patience = TrainingConfig(early_stopping_evaluations=2)
    stopping = EarlyStopping()
    says = []
    for improved in (True, False, True, False, False):
        stopping.note(improved)
        says.append(stopping.says_stop(patience))
    assert says == [False, False, False, False, True]
    assert not stopping.says_stop(TrainingConfig())


def test_the_guard_names_few_of_many_examples() -> None:
    guard = NonFiniteGuard()
    with pytest.raises(RunFailedError, match=r"examples 0, 1, 2, 3, 4, 5, 6, 7 \.\.\.; look"):
        guard.allows_update(1, {"loss": math.nan}, False, list(range(20)), TrainingConfig())


def test_a_loss_scaler_may_skip() -> None:
    guard = NonFiniteGuard()
    assert not guard.allows_update(1, {}, False, [], TrainingConfig(precision="fp16"))


def test_progress_renews_its_line_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(10, terminal=True)
    progress._shown -= 1
    progress.step(1, {"loss": 0.5, "learning_rate": 0.1})  # no step was timed yet
    progress.step(2, {"loss": 0.5, "learning_rate": 0.1})  # too soon
    progress.evaluation(2, "accuracy", 0.75, best=True)
    said = capsys.readouterr().err
    assert said.startswith("\r\033[Kstep 1/10  loss 0.5000  lr 1.00e-01\r")
    assert said.endswith("\r\033[Kstep 2/10  validation accuracy 0.7500  (best)\n")
    assert said.count("\r") == 2


def test_progress_writes_plain_lines_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(10, terminal=False)
    progress.step(1, {"loss": 0.5, "learning_rate": 0.1})
    progress._shown -= 11
    progress.step(2, {"loss": 0.25, "learning_rate": 0.1})
    progress.say("done")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("step 2/10  loss 0.2500")
    assert lines[0].endswith(" s left")
    assert lines[1] == "done"


def test_a_micro_batch_has_generators_of_its_own() -> None:
    keys = StepKeys(seed=0, step=1, micro=2, rank=0)
    first, again, other = (keys.generator(p).initial_seed() for p in ("noise", "noise", "mask"))
    assert first == again != other
    assert (
        keys.generator("noise").initial_seed()
        != replace(keys, micro=3).generator("noise").initial_seed()
    )
    assert keys.dropout_seed() != replace(keys, step=2).dropout_seed()


def test_a_bare_task_says_what_it_lacks(tmp_path: Path) -> None:
    task: Task[Any] = Task(toy())
    batch = {"x": torch.zeros(3)}
    assert task.begin(None, batch) == (batch, None)
    assert task.counts(batch, None) == {"loss": 3}
    assert task.report_sections([], tmp_path) == []
    assert task.example_candidate() is None
    assert task.workloads(nn.Identity()) == ()
    for call in (
        task.build_model,
        task.datasets,
        task.example_input,
        lambda: task.loss(nn.Identity(), batch, None, None),  # type: ignore[arg-type]
        lambda: task.predict(nn.Identity(), batch),
        lambda: task.scores([]),
    ):
        with pytest.raises(NotImplementedError):
            call()
