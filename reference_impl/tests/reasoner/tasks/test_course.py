"""Where a reasoner stops, from what it said at each step."""

import torch

from reference_reasoner.reasoner.data.labels import IGNORED
from reference_reasoner.reasoner.tasks.course import (
    Course,
    asked_of,
    stops,
)

COURSE = Course(
    answers=torch.tensor([[[1, 2], [3, 4]], [[5, 6], [7, 8]], [[9, 1], [2, 3]]]),
    right=torch.tensor([[False, False], [True, False], [False, False]]),
    sure=torch.tensor([[0.2, 0.7], [0.6, 0.1], [0.9, 0.3]]),
)
LABELS = torch.tensor([[5, IGNORED], [1, 1]])


def test_a_row_stops_where_it_is_sure_for_the_first_time_or_at_the_end() -> None:
    assert stops(COURSE, 0.5, never=False).tolist() == [1, 0]
    assert stops(COURSE, 0.8, never=False).tolist() == [2, 2]
    assert stops(COURSE, 0.0, never=True).tolist() == [2, 2]


def test_a_row_keeps_the_answer_at_its_stop_and_what_came_after() -> None:
    assert COURSE.output(LABELS, 0, 1) == {
        "answer": [5],
        "steps": 2,
        "first_correct": 2,
        "right": True,
        "right_at_full_depth": False,
        "right_by_step": [False, True, False],
        "confidences": [0.2, 0.6, 0.9],
    }
    never = COURSE.output(LABELS, 1, 0)
    assert (never["answer"], never["first_correct"], never["right"]) == ([3, 4], None, False)


def test_only_what_is_asked_for_is_kept() -> None:
    assert asked_of(LABELS, 0, torch.tensor([7, 8])) == [7]
    assert asked_of(LABELS, 1, torch.tensor([7, 8])) == [7, 8]
