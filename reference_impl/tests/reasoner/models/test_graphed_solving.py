"""Solving by recorded steps gives what solving step by step gives."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from reference_reasoner.engine.seeding import seed_globals
from reference_reasoner.reasoner.models.full_model import RecursiveReasoner
from reference_reasoner.reasoner.models.serving.cuda_graph import captured
from reference_reasoner.reasoner.models.serving.graphed_solving import GraphedReasoner
from reference_reasoner.reasoner.tasks.sudoku_presets import SMOKE


class Recorder:
    """Runs as often as a recording does beforehand, and then at each call; no GPU needed."""

    def __init__(self) -> None:
        self.recordings = 0

    def __call__(self, run: Callable[[], None]) -> Callable[[], None]:
        self.recordings += 1
        for _ in range(3):
            run()
        return run


def undecided(dtype: torch.dtype = torch.float32) -> RecursiveReasoner:
    """Untrained, with a head that lets rows go at different steps."""
    seed_globals(0, "init")
    config = replace(SMOKE, halting=replace(SMOKE.halting, max_steps=6))
    model = RecursiveReasoner(config, vocabulary=6, tokens=16).eval()
    with torch.no_grad():
        model.halting.linear.weight.normal_(generator=torch.Generator().manual_seed(1)).neg_()
        model.halting.linear.bias.zero_()
    return model.to(dtype)


def puzzles(count: int) -> torch.Tensor:
    return torch.randint(1, 6, (count, 16), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.8, 1.0])
def test_answers_and_steps_are_those_without_graphs(threshold: float, dtype: torch.dtype) -> None:
    model, tokens = undecided(dtype), puzzles(13)
    with torch.inference_mode():
        expected = model.solve(tokens, threshold=threshold, max_steps=6, compaction="powers_of_two")
        graphed = GraphedReasoner(model, capture=Recorder())
        for _ in range(2):  # the second time nothing is recorded, and nothing is left over
            found = graphed.solve(tokens, threshold=threshold, max_steps=6)
            assert torch.equal(found.steps, expected.steps)
            assert torch.equal(found.output, expected.output)
            assert torch.equal(found.logit, expected.logit)


def test_the_rows_leave_at_different_steps() -> None:
    found = undecided().solve(puzzles(13), threshold=0.6, max_steps=6)
    assert len(found.steps.unique()) > 2


def test_each_batch_size_is_recorded_once() -> None:
    recorder = Recorder()
    graphed = GraphedReasoner(undecided(), capture=recorder)
    for count in (4, 4, 1, 4):
        graphed.solve(puzzles(count), threshold=1.0, max_steps=2)
    assert recorder.recordings == 2


def test_it_asks_for_weights_in_their_dtype_and_for_a_gpu() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(ValueError, match="autocast"):
        GraphedReasoner(undecided()).solve(puzzles(1), threshold=0.5, max_steps=1)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="torch finds none"):
            captured(lambda: None)
        with pytest.raises(RuntimeError, match="torch finds none"):
            GraphedReasoner(undecided()).solve(puzzles(1), threshold=0.5, max_steps=1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_gives_the_same_by_real_graphs() -> None:
    model, tokens = undecided().to("cuda"), puzzles(13).to("cuda")
    with torch.inference_mode():
        expected = model.solve(tokens, threshold=0.6, max_steps=6, compaction="powers_of_two")
        found = GraphedReasoner(model).solve(tokens, threshold=0.6, max_steps=6)
    assert torch.equal(found.steps, expected.steps)
    torch.testing.assert_close(found.output, expected.output)
