"""Each line of REPRODUCIBILITY.md names a proof that exists, and the doctor looks at it."""

import re
from pathlib import Path

import pytest

from reference_reasoner.engine.command_line import COMMANDS
from reference_reasoner.engine.commands.doctor import all_checks
from reference_reasoner.engine.evaluation.predictions import make_evaluator
from reference_reasoner.engine.verification.doctor import Examination

from .toy.task import ToyTask

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "REPRODUCIBILITY.md").read_text(encoding="utf-8")
CELLS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("|")
][2:]
LINES = {item: re.findall(r"`([^`]+)`", proof) for item, _, proof in CELLS if proof}
GROUPS = [item.strip("*") for item, _, proof in CELLS if not proof]


def test_it_has_a_group_for_each_kind_of_claim() -> None:
    assert GROUPS == [
        "seeds",
        "data version",
        "environment",
        "determinism",
        "hardware",
        "resume",
        "evaluation",
        "claims",
    ]


def exists(proof: str) -> bool:
    """Whether the test file, the session or the command is there."""
    if proof.startswith("tests/"):
        return "def test_" in (ROOT / proof).read_text(encoding="utf-8")
    if proof.startswith("nox -s "):
        session = proof.removeprefix("nox -s ")
        return f"def {session}(session" in (ROOT / "noxfile.py").read_text(encoding="utf-8")
    return proof.split()[0] in COMMANDS


@pytest.mark.parametrize("item", LINES)
def test_each_proof_exists(item: str) -> None:
    assert LINES[item]
    assert [proof for proof in LINES[item] if not exists(proof)] == []


def test_the_doctor_looks_at_every_line(tmp_path: Path) -> None:
    exam = Examination(
        task_name="toy",
        task_type=ToyTask,
        folder=tmp_path,
        make_evaluator=make_evaluator,
        launch=lambda *_: 0,
        run=None,
        budgets=tmp_path / "budgets.toml",
    )
    found = {item.name: item.proof for item in all_checks(exam)}
    assert set(found) == set(LINES)
    assert len(found) == len(all_checks(exam))
    for name, proof in found.items():
        assert proof.strip("`").split(" RUN")[0] in LINES[name], name
