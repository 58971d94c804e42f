"""Rows live in the carry until they halt, and a step is trained at a time; also resumed."""

import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reference_reasoner.engine.config.fields import overlay
from reference_reasoner.engine.data.dataset import Batch
from reference_reasoner.engine.data.loader import training_batches
from reference_reasoner.engine.evaluation.predictions import make_evaluator
from reference_reasoner.engine.profiling.counted.passes import saved_activations
from reference_reasoner.engine.seeding import seed_globals
from reference_reasoner.engine.training.checkpoint import load_weights
from reference_reasoner.engine.training.device import blocks_eager, compiled
from reference_reasoner.engine.training.resume import TrainRequest
from reference_reasoner.engine.training.session import train
from reference_reasoner.engine.training.task import Carry, LossOutput, StepKeys
from reference_reasoner.reasoner.data.labels import IGNORED
from reference_reasoner.reasoner.models.act_head import hazard_kl
from reference_reasoner.reasoner.models.full_model import RecursiveReasoner
from reference_reasoner.reasoner.models.layers.stablemax import log_probabilities
from reference_reasoner.reasoner.models.trm_wrapper import (
    RecursionConfig,
    States,
    latent_recursion,
)
from reference_reasoner.reasoner.tasks.losses import answer_loss

from ...engine.toy.runs import facts, outcome
from .flood_fill import (
    CELLS,
    MODEL,
    FloodFillConfig,
    FloodFillTask,
    flood_fill,
)

KEYS = StepKeys(seed=0, step=1, micro=0, rank=0)


def candidates(task: FloodFillTask, step: int, rows: int = 8) -> Batch:
    (batch,) = training_batches(
        task.datasets().train, batch_size=rows, seed=0, first_step=step, last_step=step, workers=0
    )
    return batch


def built(task: FloodFillTask) -> RecursiveReasoner:
    seed_globals(0, "init")
    model = task.build_model()
    assert isinstance(model, RecursiveReasoner)
    return model


def with_halting(**changes: Any) -> FloodFillTask:
    model = replace(MODEL, halting=replace(MODEL.halting, **changes))
    return FloodFillTask(replace(flood_fill(), model=model))


def sure(model: RecursiveReasoner, logit: float) -> None:
    """Make the halting head say `logit` of everything."""
    with torch.no_grad():
        model.halting.linear.bias.fill_(logit)


def begun_together(task: FloodFillTask, first: Batch) -> tuple[Batch, Carry]:
    """The first batch, with all its rows at step 0."""
    batch, carry = task.begin(None, first)
    assert carry is not None
    return batch, {**carry, "steps": torch.zeros_like(carry["steps"])}


def test_rows_of_the_first_batch_do_not_leave_together() -> None:
    task = with_halting(exploration=0.0, max_steps=4)
    model = built(task)
    sure(model, -9.0)
    batch, carry = task.begin(None, candidates(task, 1))
    again = task.begin(None, candidates(task, 1))[1]
    assert carry is not None
    assert again is not None
    assert torch.equal(carry["steps"], again["steps"])
    assert set(carry["steps"].tolist()) <= {0, 1, 2, 3}
    assert len(set(carry["steps"].tolist())) > 1
    plain = model(batch["tokens"])  # whatever they count from, they begin at the initial states
    left = []
    for update in range(8):
        after = task.loss(model, batch, carry, KEYS).carry
        assert after is not None
        if not update:
            torch.testing.assert_close(after["answer"], plain.answer)
        left.append(int(after["halted"].sum()))
        batch, carry = task.begin(after, candidates(task, update + 2))
        assert carry is not None
        assert carry["steps"][after["halted"]].tolist() == [0] * left[-1]
    assert sum(left[:4]) == sum(left[4:]) == 8  # each row once in four updates
    assert max(left) < 8


def test_halted_rows_take_candidates_and_others_keep_their_data() -> None:
    task = with_halting(exploration=0.0)
    model = built(task)
    first = candidates(task, 1)
    batch, carry = begun_together(task, first)
    assert all(torch.equal(batch[name], first[name]) for name in first)
    carry = task.loss(model, batch, carry, KEYS).carry
    assert carry is not None
    assert carry["steps"].tolist() == [1] * 8
    assert carry["halted"].tolist() == [False] * 8  # the head starts at "nothing is right"
    carry["halted"][[2, 5]] = True
    second = candidates(task, 2)
    batch, begun = task.begin(carry, second)
    assert begun is not None
    for row in range(8):
        origin = second if row in (2, 5) else first
        assert all(torch.equal(batch[name][row], origin[name][row]) for name in first)
    assert begun["steps"].tolist() == [1, 1, 0, 1, 1, 0, 1, 1]
    after = task.loss(model, batch, begun, KEYS).carry
    assert after is not None
    alone = model(second["tokens"][[2, 5]])
    torch.testing.assert_close(after["answer"][[2, 5]], alone.answer)
    torch.testing.assert_close(after["latent"][[2, 5]], alone.latent)
    later = model(first["tokens"], *alone_states(carry))
    torch.testing.assert_close(after["answer"][[0, 1]], later.answer[[0, 1]])
    assert after["updates"].tolist() == [2] * 8


def alone_states(carry: Carry) -> tuple[Tensor, Tensor]:
    return carry["answer"], carry["latent"]


def test_a_row_leaves_when_the_head_is_sure_or_its_steps_are_used_up() -> None:
    task = with_halting(exploration=0.0, max_steps=3)
    model = built(task)
    batch, carry = begun_together(task, candidates(task, 1))
    sure(model, 1.0)
    leaving = task.loss(model, batch, carry, KEYS).carry
    assert leaving is not None
    assert leaving["halted"].all()
    sure(model, -1.0)
    for step in (1, 2, 3):
        after = task.loss(model, batch, carry, KEYS).carry
        assert after is not None
        assert after["halted"].all() == (step == 3)
        batch, begun = task.begin(after, candidates(task, 1))
        assert begun is not None
        carry = begun


def test_exploration_keeps_a_sure_row_in_the_batch() -> None:
    task = with_halting(exploration=1.0)
    model = built(task)
    sure(model, 5.0)
    batch, carry = begun_together(task, candidates(task, 1))
    minimum = carry["minimum"]
    assert set(minimum.tolist()) <= {2, 3, 4}
    for step in range(1, 5):
        after = task.loss(model, batch, carry, KEYS).carry
        assert after is not None
        assert torch.equal(after["halted"], step >= minimum)
        carry = {**after, "halted": torch.zeros_like(after["halted"])}


def test_exploration_does_not_depend_on_how_a_batch_is_split() -> None:
    task = with_halting(exploration=0.5)
    drawn = [task.begin(None, candidates(task, 1))[1] for _ in range(2)]
    assert drawn[0] is not None
    assert drawn[1] is not None
    assert torch.equal(drawn[0]["minimum"], drawn[1]["minimum"])
    assert len(set(drawn[0]["minimum"].tolist())) > 1
    later = {**drawn[0], "updates": drawn[0]["updates"] + 1, "halted": torch.ones(8) > 0}
    _, other = task.begin(later, candidates(task, 1))
    assert other is not None
    assert not torch.equal(other["minimum"], drawn[0]["minimum"])


def test_the_loss_is_a_sum_over_rows_and_the_counts_divide_it() -> None:
    task = with_halting(diversity_weight=0.0)
    model = built(task).double()
    batch, carry = task.begin(None, candidates(task, 1))
    batch["labels"][3] = IGNORED
    assert task.counts(batch, carry) == {"answer": 7, "halting": 7}
    whole = task.loss(model, batch, carry, KEYS)
    assert carry is not None
    parts = [
        task.loss(
            model,
            {name: value[rows] for name, value in batch.items()},
            {name: value[rows] for name, value in carry.items()},
            KEYS,
        )
        for rows in (slice(0, 3), slice(3, None))
    ]
    for name in ("answer", "halting"):
        torch.testing.assert_close(whole.terms[name], parts[0].terms[name] + parts[1].terms[name])
    others = torch.arange(8) != 3
    asked = task.loss(
        model,
        {name: value[others] for name, value in batch.items()},
        {name: value[others] for name, value in carry.items()},
        KEYS,
    )
    torch.testing.assert_close(whole.terms["halting"], asked.terms["halting"])
    assert whole.carry is not None
    for name, value in whole.carry.items():
        joined = torch.cat([part.carry[name] for part in parts if part.carry is not None])
        torch.testing.assert_close(value, joined)


def test_one_step_equals_a_loop_written_by_hand() -> None:
    task = with_halting(diversity_weight=0.0)
    model = built(task).double()
    batch = candidates(task, 1)
    batch, carry = task.begin(None, batch)
    for _ in range(2):  # the second step starts from the states of the first
        states = None if carry is None or not int(carry["steps"][0]) else alone_states(carry)
        model.zero_grad()
        output = task.loss(model, batch, carry, KEYS)
        sum(output.terms.values(), start=torch.zeros(())).backward()
        found = {name: p.grad.clone() for name, p in model.named_parameters()}
        model.zero_grad()
        by_hand(model, batch, states).backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-9, atol=1e-12)
        assert output.carry is not None
        carry = {**output.carry, "halted": torch.zeros(8) > 0}


def by_hand(model: RecursiveReasoner, batch: Batch, states: tuple[Tensor, Tensor] | None) -> Tensor:
    question = model.question(batch["tokens"])
    answer, latent = model.initial(question) if states is None else (s.double() for s in states)

    def net(x: Tensor) -> Tensor:
        return model.backbone(x, 2)

    with torch.no_grad():
        for _ in range(1):
            answer, latent = latent_recursion(net, question, States(answer, latent), 1)
    latent = net(question + answer + latent)
    answer = net(answer + latent)
    logits = answer[:, 2:] @ model.head.weight.T
    loss = nn.functional.cross_entropy(
        logits.transpose(1, 2), batch["labels"], reduction="none"
    ).mean(1)
    right = (logits.argmax(-1) == batch["labels"]).all(1).double()
    pooled = torch.cat([answer.mean(1), answer.amin(1)], -1)
    logit = (pooled @ model.halting.linear.weight.T + model.halting.linear.bias)[:, 0]
    halting = nn.functional.binary_cross_entropy_with_logits(logit, right, reduction="sum")
    return loss.sum() + 0.5 * halting


def test_the_first_steps_of_a_training_are_shallow() -> None:
    recursion = RecursionConfig(latent_steps=1, recursions=3, shallow_share=0.5)
    task = FloodFillTask(replace(flood_fill(), model=replace(MODEL, recursion=recursion)))
    model, applied = built(task), []
    model.backbone.register_forward_hook(lambda *_: applied.append(1))
    batch, carry = task.begin(None, candidates(task, 1))
    half = task.config.training.steps // 2
    passes = {}
    for step in (1, half, half + 1):
        applied.clear()
        task.loss(model, batch, carry, replace(KEYS, step=step))
        passes[step] = len(applied)
    assert passes == {1: 2, half: 2, half + 1: 6}
    applied.clear()
    with torch.no_grad():
        task.predict(model, batch)
    assert len(applied) == 6 * task.reasoner.halting.max_steps


def test_the_diversity_term_is_the_hazard_kl_of_the_batch() -> None:
    task = with_halting(diversity_weight=0.5)
    model = built(task)
    batch, carry = task.begin(None, candidates(task, 1))
    output = task.loss(model, batch, carry, KEYS)
    logit = model(batch["tokens"]).halting
    expected = 0.5 * hazard_kl(logit, torch.ones(8, dtype=torch.int64), task.reasoner.halting)
    torch.testing.assert_close(output.terms["diversity"], expected)
    assert "diversity" in task.per_micro_batch
    output.terms["diversity"].backward()
    assert model.halting.linear.bias.grad.abs() > 0


def test_with_one_step_an_example_nothing_is_carried() -> None:
    task = with_halting(max_steps=1)
    first = candidates(task, 1)
    batch, carry = task.begin(None, first)
    assert batch is first
    assert carry is None
    assert task.loss(built(task), batch, None, KEYS).carry is None


def test_memory_is_flat_in_the_number_of_supervision_steps() -> None:
    task = with_halting(max_steps=8)
    model = built(task)
    sure(model, -9.0)
    same, kept = candidates(task, 1), set()
    batch, carry = task.begin(None, same)
    for _ in range(8):
        found, output = saved_activations(model, partial(task.loss, model, batch, carry, KEYS))
        kept.add(found.all_bytes())
        assert not [name for name, each in output.carry.items() if each.requires_grad]
        batch, carry = task.begin(output.carry, same)
    assert len(kept) == 1


def test_a_prediction_stops_where_the_head_is_sure_first() -> None:
    task = with_halting(threshold=0.5)
    model = built(task).eval()
    batch = next(
        iter(
            training_batches(
                task.datasets().train, batch_size=48, seed=0, first_step=1, last_step=1, workers=0
            )
        )
    )
    with torch.no_grad():
        model.halting.linear.weight.normal_(0, 30.0, generator=torch.Generator().manual_seed(0))
        # half of the rows are sure at once
        model.halting.linear.bias -= model(batch["tokens"]).halting.median()
    with torch.no_grad():
        steps = list(model.at_depth(batch["tokens"], 4))
        rows = task.predict(model, batch)
    taken = set()
    for index, row in enumerate(rows):
        confidences = [float(step.halting[index].sigmoid()) for step in steps]
        assert row.output["confidences"] == pytest.approx(confidences, abs=1e-5)
        first = next((n for n, p in enumerate(confidences[:-1], 1) if p > 0.5), 4)
        assert row.output["steps"] == first
        assert row.confidence == pytest.approx(confidences[first - 1], abs=1e-6)
        assert row.output["answer"] == steps[first - 1].logits[index].argmax(-1).tolist()
        right = [bool((s.logits[index].argmax(-1) == batch["labels"][index]).all()) for s in steps]
        assert row.output["right"] == right[first - 1]
        assert row.output["right_by_step"] == right
        assert row.output["right_at_full_depth"] == right[-1]
        assert row.output["first_correct"] == (right.index(True) + 1 if any(right) else None)
        assert row.slices["difficulty"].isdigit()
        taken.add(first)
    assert len(taken) > 1
    scores = task.scores(rows)
    lost = scores["accuracy_at_full_depth"] - scores["tuned_accuracy"]
    assert lost <= 1e-9
    task.use_validation({"threshold": 0.999})
    with torch.no_grad():
        later = task.predict(model, batch)
    assert sum(row.output["steps"] for row in later) > sum(row.output["steps"] for row in rows)
    assert {"accuracy", "token_accuracy", "mean_steps", "spearman_first_correct"} <= set(scores)


def test_a_loss_in_nats() -> None:
    logits = torch.randn(3, 5, 4, dtype=torch.float64)
    labels = torch.randint(0, 4, (3, 5))
    labels[0, 1:] = IGNORED
    labels[1] = IGNORED
    found = answer_loss(logits, labels, "softmax")
    for row in (0, 2):
        expected = nn.functional.cross_entropy(logits[row], labels[row], ignore_index=IGNORED)
        torch.testing.assert_close(found[row], expected)
    assert found[1] == 0


def test_stablemax_is_its_formula() -> None:
    logits = torch.tensor([[-3.0, -0.5, 0.0, 2.0]], dtype=torch.float64, requires_grad=True)
    scores = torch.tensor([[1 / 4, 1 / 1.5, 1.0, 3.0]], dtype=torch.float64)
    logs = log_probabilities(logits, "stablemax")
    torch.testing.assert_close(logs.exp(), scores / scores.sum())
    assert torch.autograd.gradcheck(lambda x: log_probabilities(x, "stablemax"), (logits + 0.01,))
    torch.testing.assert_close(log_probabilities(logits, "softmax"), logits.log_softmax(-1))
    huge = torch.tensor([1e4, -1e4], requires_grad=True)
    log_probabilities(huge, "stablemax")[0].backward()
    assert huge.grad.isfinite().all()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_block_by_block_it_learns_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    really = nn.Module.compile
    monkeypatch.setattr(
        nn.Module, "compile", lambda self, **given: really(self, backend=backend, **given)
    )
    runtime = replace(flood_fill().runtime, compile=True)
    task = FloodFillTask(replace(flood_fill(), runtime=runtime))
    eager, model = built(task), built(task)
    assert compiled(task, model) is model
    assert list(model.state_dict()) == list(eager.state_dict())
    batch, carry = task.begin(None, candidates(task, 1))
    for each in (eager, model):
        sum(task.loss(each, batch, carry, KEYS).terms.values(), start=torch.zeros(())).backward()
    for ours, theirs in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    assert 1 <= len(graphs) <= 2  # with and without gradients, and not one a pass
    before = len(graphs)
    with blocks_eager(runtime), torch.no_grad():
        task.predict(model, candidates(task, 2, rows=3))
    assert len(graphs) == before
    torch.compiler.reset()


def test_it_trains_a_reasoner_only() -> None:
    task = FloodFillTask(flood_fill())
    batch, carry = task.begin(None, candidates(task, 1))
    with pytest.raises(TypeError, match="RecursiveReasoner"):
        task.loss(nn.Linear(2, 2), batch, carry, KEYS)


class KilledTask(FloodFillTask):
    """Sends itself a signal in step 6."""

    def loss(
        self, model: nn.Module, batch: Batch, carry: Carry | None, keys: StepKeys
    ) -> LossOutput:
        if keys.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().loss(model, batch, carry, keys)


def run(run_dir: Path, task_type: type[FloodFillTask] = FloodFillTask, **given: Any) -> int:
    config = overlay(flood_fill(), given.pop("overrides", {}), "test")
    assert isinstance(config, FloodFillConfig)
    request = TrainRequest(
        task_name="flood_fill",
        task_type=task_type,
        preset="flood_fill",
        config=config,
        run_dir=run_dir,
        **given,
    )
    return train(request, make_evaluator)


@pytest.mark.parametrize(("accumulation", "saved"), [(1, 6), (3, 5)])
def test_killed_and_resumed_it_ends_with_the_same_hashes(
    project: Path, accumulation: int, saved: int
) -> None:
    # between micro-batches the trainer leaves a step; a step of one it finishes
    overrides = {"training.accumulation_steps": accumulation}
    assert run(project / "whole", overrides=overrides) == 0
    assert run(project / "parts", KilledTask, overrides=overrides) == 143
    assert run(project / "parts", overrides=overrides, resume=True) == 0
    assert outcome(project / "parts") == outcome(project / "whole")
    assert [session["from_step"] for session in facts(project / "parts")["sessions"]] == [0, saved]


def test_eight_corridors_can_be_learned_by_heart(project: Path) -> None:
    changes = {
        "data.examples": 8,
        "training.steps": 250,
        "training.learning_rate": 5e-3,
        "training.select_on": "raw",
        "evaluation.every_steps": 250,
        "checkpoint.every_steps": 250,
        "model.halting.diversity_weight": 0.0,
    }
    assert run(project / "run", overrides=changes) == 0
    task = FloodFillTask(overlay(flood_fill(), changes, "test"))
    tensors, _ = load_weights(project / "run", "last")
    model = built(task)
    model.load_state_dict(tensors)
    batch = candidates(task, 1)
    with torch.no_grad():
        *_, last = model.eval().at_depth(batch["tokens"], 4)
    assert torch.equal(last.logits.argmax(-1), batch["labels"])
    assert batch["labels"].shape == (8, CELLS)
