"""The recursion, attention, mixing, loss and halting head are those of the official TRM code.

Its numbers were made with weights and inputs by formula (formulas.py); official_trm.json says
how. They are float64, and how far its own float32 run was from them stands beside them.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from reference_reasoner.engine.seeding import derive
from reference_reasoner.engine.training.task import StepKeys
from reference_reasoner.reasoner.data.labels import IGNORED
from reference_reasoner.reasoner.models.full_model import RecursiveReasoner
from reference_reasoner.reasoner.tasks.sudoku import SudokuTask
from reference_reasoner.reasoner.tasks.sudoku_presets import (
    trm7m,
    trm7m_mixing,
)

from .formulas import (
    IGNORED_LABEL,
    formula_tensor,
    official_labels,
    official_tokens,
    reference,
    sample_positions,
)

FORMS = {"attention": trm7m, "mixing": trm7m_mixing}
OURS = {
    "inner.H_init": "initial.answer",
    "inner.L_init": "initial.latent",
    "inner.L_level.layers": "backbone.blocks",
    "mlp_t.": "mix_positions.",
    "mlp.": "feed_forward.",
    "gate_up_proj": "gate_up",
    "down_proj": "out",
    "self_attn": "attention",
    "o_proj": "out",
    "qkv_proj": "qkv",
    "inner.embed_tokens.embedding_weight": "embedding.weight",
    "inner.lm_head": "head",
    "inner.puzzle_emb.weights": "persistent",
    "inner.q_head": "halting.linear",
}


def our_name(official: str) -> str:
    for theirs, ours in OURS.items():
        official = official.replace(theirs, ours)
    return official


@cache
def numbers(form: str) -> dict[str, Any]:
    return reference("official_trm")[form]


def our_model(form: str, kind: torch.dtype) -> tuple[SudokuTask, RecursiveReasoner]:
    """The preset's model with the weights of the formula, in `kind`."""
    config = FORMS[form]()
    task = SudokuTask(config)
    model = task.build_model()
    assert isinstance(model, RecursiveReasoner)
    state = model.state_dict()
    for official, (index, shape, total) in numbers(form)["tensors"].items():
        value = formula_tensor(index, tuple(shape))
        assert float(value.double().sum()) == pytest.approx(total, abs=1e-9)
        ours = state.pop(our_name(official))
        if official.endswith("puzzle_emb.weights"):
            ours[0] = value[0]  # one vector, and 15 zeros after it
        else:
            assert ours.shape == value.shape
            ours.copy_(value)
    assert not state, "a tensor of ours that the official model has not"
    # theirs is trained, by signs; here it must only get a gradient
    del model._buffers["persistent"]
    persistent = model.initial.answer.new_zeros(16, 512)
    persistent[0] = formula_tensor(
        numbers(form)["tensors"]["inner.puzzle_emb.weights"][0], (1, 512)
    )
    model.register_parameter("persistent", torch.nn.Parameter(persistent))
    return task, model.to(kind)


def batch(given: Tensor | None = None) -> dict[str, Tensor]:
    wanted = official_labels() if given is None else given
    return {
        "tokens": official_tokens(),
        "labels": wanted.masked_fill(wanted == IGNORED_LABEL, IGNORED),
    }


KEYS = StepKeys(seed=derive(0), step=1, micro=0, rank=0)


def close(ours: Tensor, theirs: dict[str, Any], tolerance: float) -> None:
    """Sums and samples of a tensor, relative to its size."""
    flat = ours.detach().double().flatten()
    norm, largest = flat.norm().item(), flat.abs().max().item()
    assert norm == pytest.approx(theirs["l2"], rel=tolerance)
    assert flat.sum().item() == pytest.approx(
        theirs["sum"], abs=tolerance * flat.abs().sum().item() + 1e-12
    )
    wanted = torch.tensor(theirs["samples"], dtype=torch.float64)
    found = flat[sample_positions(flat.numel(), len(wanted))]
    assert (found - wanted).abs().max() <= tolerance * largest + 1e-12


def judged(terms: Mapping[str, Tensor], theirs: dict[str, Any], tolerance: float) -> None:
    """Both losses of a step; ours has the halting one weighted already."""
    answer, halting = (float(terms[name].detach()) for name in ("answer", "halting"))
    assert answer == pytest.approx(theirs["lm_loss"], rel=tolerance)
    assert 2 * halting == pytest.approx(theirs["q_halt_loss"], rel=tolerance)


@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
@pytest.mark.parametrize("form", FORMS)
def test_two_supervision_steps_equal_the_official_ones(form: str, kind: torch.dtype) -> None:
    # in float32 mixing enlarges rounding: their own run is 4e-4 off at the second step
    tolerance = 1e-10 if kind == torch.float64 else {"attention": 1e-5, "mixing": 2e-3}[form]
    task, model = our_model(form, kind)
    theirs = numbers(form)
    question = model.question(official_tokens())
    close(question, theirs["embeddings"], tolerance)
    start = model.initial(question)
    with torch.no_grad():
        once = model.backbone(question + start.answer + start.latent, 16)
    close(once, theirs["first_call"], tolerance)

    first = model(official_tokens())
    expected = theirs["step_1"]
    close(first.logits, expected["logits"], tolerance)
    close(first.answer, expected["z_H"], tolerance)
    close(first.latent, expected["z_L"], tolerance)
    assert first.halting.tolist() == pytest.approx(expected["q_halt"], rel=tolerance)
    with torch.no_grad():
        second = model(official_tokens(), *first.states)
    close(second.logits, theirs["step_2"]["logits"], tolerance)
    close(second.answer, theirs["step_2"]["z_H"], tolerance)
    close(second.latent, theirs["step_2"]["z_L"], tolerance)
    assert second.halting.tolist() == pytest.approx(theirs["step_2"]["q_halt"], rel=tolerance)

    output = task.loss(model, batch(), None, KEYS)
    assert float(output.terms["answer"].detach()) == pytest.approx(
        expected["lm_loss"], rel=tolerance
    )
    assert 2 * float(output.terms["halting"].detach()) == pytest.approx(
        expected["q_halt_loss"], rel=tolerance
    )
    (output.terms["answer"] + output.terms["halting"]).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    for official, stored in expected["gradients"].items():
        gradient = gradients.pop(our_name(official))
        if official.endswith("puzzle_emb.weights"):
            gradient = gradient[:1]
        close(gradient, stored, tolerance)
    assert not gradients


@pytest.mark.parametrize("form", FORMS)
def test_a_solved_sample_is_judged_as_officially(form: str) -> None:
    task, model = our_model(form, torch.float64)
    theirs = numbers(form)["step_1_solved"]
    labels = official_labels()
    labels[0] = torch.tensor(theirs["labels_0"])
    judged(task.loss(model, batch(labels), None, KEYS).terms, theirs, 1e-10)
