"""Predictions and the evaluator that the loop calls."""

from pathlib import Path
from typing import Any

import pytest
import torch

from reference_reasoner.engine.errors import RefusedInputError
from reference_reasoner.engine.evaluation.predictions import (
    find_stored,
    make_evaluator,
    predict,
    read_rows,
    results,
    store,
    write_rows,
)
from reference_reasoner.engine.training.task import Row

from ..toy.task import ToyTask, toy

CPU = torch.device("cpu")


def rows_of(batch_size: int, poll: Any = lambda: None) -> list[Row]:
    task = ToyTask(toy())
    torch.manual_seed(0)
    model = task.build_model()
    data = task.datasets().validation
    return predict(task, model, data, batch_size=batch_size, device=CPU, poll=poll)


def test_every_example_comes_once_whatever_the_batch_size() -> None:
    for size in (1, 7, 30, 100):
        rows = rows_of(size)
        assert [row.example_id for row in rows] == list(range(30))
        expected = torch.tensor([row.output for row in rows_of(30)])
        torch.testing.assert_close(torch.tensor([row.output for row in rows]), expected)


def test_predicting_draws_nothing_and_leaves_the_mode() -> None:
    class Drawing(ToyTask):
        def predict(self, model: Any, batch: Any) -> list[Row]:
            assert not model.training
            assert not torch.is_grad_enabled()
            torch.rand(3)
            return super().predict(model, batch)

    task = Drawing(toy())
    model = task.build_model().train()
    before = torch.get_rng_state()
    predict(task, model, task.datasets().validation, batch_size=8, device=CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


def test_it_polls_before_each_batch_and_may_be_left() -> None:
    polls = []

    def leave_at_the_third() -> None:
        polls.append(1)
        if len(polls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rows_of(10, leave_at_the_third)
    assert len(polls) == 3


def test_the_evaluator_scores_the_validation_split() -> None:
    task = ToyTask(toy())
    evaluate = make_evaluator(task, task.datasets(), task.config, CPU)
    torch.manual_seed(0)
    assert evaluate(task.build_model(), lambda: None) == task.scores(rows_of(30))


def test_rows_come_back_equal(tmp_path: Path) -> None:
    rows = [Row(example_id=3, target=[1], output=[0.1, 1 / 3], confidence=None, slices={"a": "b"})]
    write_rows(tmp_path / "new" / "rows.jsonl", rows)
    assert read_rows(tmp_path / "new" / "rows.jsonl") == rows


@pytest.mark.parametrize("content", ["no json\n", '{"a": 1}\n', "[]\n"])
def test_rows_that_are_none_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "rows.jsonl").write_text(content)
    with pytest.raises(RefusedInputError, match="cannot be read as predictions"):
        read_rows(tmp_path / "rows.jsonl")


def test_stored_predictions_are_found_by_what_they_are_of(tmp_path: Path) -> None:
    facts = {"split": "test", "weights_sha256": "w" * 64, "data_fingerprint": "d" * 64}
    rows = [Row(example_id=0, target=0, output=0)]
    path = store(tmp_path, rows, facts)
    assert find_stored([tmp_path / "other", tmp_path], facts) == path
    for name in facts:  # the same file name, other contents
        changed = {**facts, name: facts[name][:40] + "x"}
        assert find_stored([tmp_path], changed) is None
    assert len(results(tmp_path)) == 1
    (tmp_path / "predictions" / "broken.json").write_text("{")
    (tmp_path / "predictions" / "foreign.json").write_text("{}")
    assert len(results(tmp_path)) == 1
