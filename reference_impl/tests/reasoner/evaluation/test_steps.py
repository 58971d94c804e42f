"""One maze and one Sudoku, step by step: what is shown, how, and for how long."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from reference_reasoner.engine.evaluation.figures import ACCENT, SECOND, new_figure
from reference_reasoner.engine.evaluation.predictions import predict
from reference_reasoner.engine.training.task import Row
from reference_reasoner.reasoner.evaluation import steps, sudoku_steps
from reference_reasoner.reasoner.evaluation.maze_steps import maze_steps_section
from reference_reasoner.reasoner.evaluation.steps import draw_steps, row_to_show
from reference_reasoner.reasoner.evaluation.sudoku_steps import (
    DARK,
    DrawnSudoku,
    sudoku_steps_section,
)
from reference_reasoner.reasoner.models.full_model import RecursiveReasoner
from reference_reasoner.reasoner.tasks.sudoku import SudokuTask
from reference_reasoner.reasoner.tasks.sudoku_presets import (
    smoke,
)

MAZE = "######S G################"
SOLUTION = MAZE.replace(" ", "o")
PUZZLE = [1, 0, 0, 4, 0, 0, 1, 0, 2, 0, 0, 3, 0, 3, 0, 0]
SOLVED = [1, 2, 3, 4, 3, 4, 1, 2, 2, 1, 4, 3, 4, 3, 2, 1]


def row_of(number: int, difficulty: str, *, right: bool = True, taken: int = 2) -> Row:
    output = {
        "right": right,
        "steps": taken,
        "confidences": [0.25, 0.996, 0.9999][: max(taken, 2)],
        "puzzle": MAZE,
        "solution": SOLUTION,
        "answers": ["?" + MAZE[1:], SOLUTION if right else MAZE],
    }
    return Row(example_id=number, target=[], output=output, slices={"difficulty": difficulty})


def test_the_hardest_item_that_took_some_thought_is_shown() -> None:
    quick, slow = row_of(0, "9", taken=1), row_of(1, "4")
    slower, wrong = row_of(2, "7"), row_of(3, "30", right=False)
    assert row_to_show([quick, slow, slower, wrong]) is slower
    assert row_to_show([wrong, quick]) is quick
    assert row_to_show([row_of(4, "20", right=False), wrong]) is wrong
    # where nothing is right, the hardest one, however long it took
    at_once = row_of(5, "40", right=False, taken=1)
    assert row_to_show([at_once, wrong]) is at_once
    with pytest.raises(ValueError, match="no rows"):
        row_to_show([])


def durations(film: Path) -> list[int]:
    """How long each frame of a GIF stays, in ms: its graphic control extensions."""
    found = re.findall(rb"\x21\xf9\x04.(..).\x00\x2c", film.read_bytes(), re.DOTALL)
    return [10 * int.from_bytes(each, "little") for each in found]


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_the_picture_shows_all_steps_and_the_film_those_taken(tmp_path: Path, taken: int) -> None:
    drawn = []

    def draws(what: str) -> Any:
        def draw(axes: Any) -> None:
            drawn.append((what, axes))

        return draw

    row = row_of(0, "3", taken=taken)
    row.output["confidences"] = [0.25, 0.996, 0.9999]
    answers = [draws(f"answer {step}") for step in (1, 2, 3)]
    path = tmp_path / "some_steps"
    names = draw_steps(
        row, puzzle=draws("puzzle"), answers=answers, solution=draws("solution"), path=path
    )
    assert names == ["some_steps.png", "some_steps.gif"]
    what = [each for each, _ in drawn]
    all_steps = ["puzzle", "answer 1", "answer 2", "answer 3"]
    assert what == [*all_steps, "solution", *all_steps[: 1 + taken]]
    titles = [axes.get_title() for _, axes in drawn[:5]]
    expected = ["step 1\n25.0 % sure", "step 2\n99.6 % sure", "step 3\n100.0 % sure"]
    expected[taken - 1] = expected[taken - 1].replace("\n", " (stops)\n")
    assert titles == ["the puzzle", *expected, "the solution"]
    assert path.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    held = steps.FRAME_MS * steps.LAST_FRAMES
    assert durations(path.with_suffix(".gif")) == [steps.FRAME_MS] * taken + [held]


def test_a_film_begins_again_and_its_item_stands_still(tmp_path: Path) -> None:
    places = []

    def draw(axes: Any) -> None:
        places.append(tuple(axes.get_position().bounds))

    # titles have one line, or two
    row = row_of(0, "2", taken=2)
    draw_steps(row, puzzle=draw, answers=[draw] * 2, solution=draw, path=tmp_path / "all")
    assert len(set(places[4:])) == 1
    left, bottom, width, height = places[-1]
    assert min(left, bottom) > 0
    assert left + width < 1
    assert bottom + height < 0.85  # there is room for two lines
    film = (tmp_path / "all.gif").read_bytes()
    assert film[:6] == b"GIF89a"
    assert b"NETSCAPE2.0\x03\x01\x00\x00" in film  # as often as one looks


def test_a_maze_is_told_and_drawn(tmp_path: Path) -> None:
    section = maze_steps_section([row_of(0, "9"), row_of(1, "12")], tmp_path)
    assert "Example 1, a path of 12 moves, solved in 2 steps" in section.text
    assert section.pictures == ["maze_steps.png", "maze_steps.gif"]
    for name in section.pictures:
        assert (tmp_path / name).stat().st_size > 1000
    unsolved = maze_steps_section([row_of(2, "30", right=False, taken=1)], tmp_path)
    assert "Example 2, a path of 30 moves, not solved in 1 step. " in unsolved.text


def texts(axes: Any) -> dict[int, tuple[str, str, str]]:
    """{cell: (what stands there, colour, weight)}, cells without a text left out."""
    return {
        int(text.get_position()[1]) * 4 + int(text.get_position()[0]): (
            text.get_text(),
            text.get_color(),
            text.get_weight(),
        )
        for text in axes.texts
        if text.get_text()
    }


def test_digits_say_whose_they_are_and_wrong_ones_stand_in_filled_cells() -> None:
    answer = list(SOLVED)
    answer[0] = 3  # a given digit that was not kept
    answer[1] = 1  # wrong
    answer[2] = 0  # still empty
    answer[4] = -1  # no digit
    _, axes = new_figure(2, 2)
    DrawnSudoku(puzzle=PUZZLE, solution=SOLVED).draw(answer, axes)
    found = texts(axes)
    wrong = {0: "3", 1: "1", 4: "?"}
    for cell, digit in enumerate(SOLVED):
        if cell == 2:
            assert cell not in found
        elif cell in wrong:
            assert found[cell] == (wrong[cell], SECOND, "normal")
        elif PUZZLE[cell]:
            assert found[cell] == (str(digit), DARK, "bold")
        else:
            assert found[cell] == (str(digit), ACCENT, "normal")
    filled = [each.get_paths()[0].get_extents() for each in axes.collections if each.get_fc().any()]
    corners = {(int(box.y0), int(box.x0)) for box in filled if box.width == box.height == 1}
    assert corners == {(0, 0), (0, 1), (1, 0)}


@pytest.mark.parametrize(("side", "depth"), [(4, 3), (6, 3), (9, 16)])
def test_films_of_all_sizes_are_small(tmp_path: Path, side: int, depth: int) -> None:
    solved = [1 + (cell + cell // side) % side for cell in range(side**2)]
    puzzle = [digit * (cell % 3 == 0) for cell, digit in enumerate(solved)]
    drawn = DrawnSudoku(puzzle=puzzle, solution=solved)
    grids = [
        [digit if (cell * 7 + step) % 5 else 1 for cell, digit in enumerate(solved)]
        for step in range(depth)
    ]
    row = row_of(0, "1", taken=depth)
    row.output["confidences"] = [0.5] * depth
    draw_steps(
        row,
        puzzle=lambda axes: drawn.draw(puzzle, axes),
        answers=[lambda axes, grid=grid: drawn.draw(grid, axes) for grid in grids],
        solution=lambda axes: drawn.draw(solved, axes),
        path=tmp_path / "all",
    )
    film = tmp_path / "all.gif"
    assert len(durations(film)) == 1 + depth
    assert film.stat().st_size <= 200_000


def test_a_sudokus_answers_are_those_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    task = SudokuTask(smoke())
    model, examples = task.build_model().eval(), task.datasets().validation
    assert isinstance(model, RecursiveReasoner)
    rows = predict(task, model, examples, batch_size=256, device=torch.device("cpu"))
    given: dict[str, Any] = {}

    def keep(row: Row, **more: Any) -> list[str]:
        given.update(more, row=row)
        return draw_steps(row, **more)

    monkeypatch.setattr(sudoku_steps, "draw_steps", keep)
    with torch.no_grad():
        section = sudoku_steps_section(model, rows[::-1], examples, tmp_path)
        row = row_to_show(rows[::-1])
        example = next(
            each
            for each in (examples.example(i, None) for i in range(len(examples)))
            if int(each["example_id"]) == row.example_id
        )
        steps_of = model.at_depth(example["tokens"][None], 4)
        found = [step.logits[0].argmax(-1) - 1 for step in steps_of]
    assert given["row"] is row
    assert section.pictures == ["sudoku_steps.png", "sudoku_steps.gif"]
    assert f"Example {row.example_id} with {row.slices['difficulty']} empty cells" in section.text
    shown = [given["puzzle"], *given["answers"], given["solution"]]
    expected = [example["tokens"] - 1, *found, example["labels"] - 1]
    for draw, grid in zip(shown, expected, strict=True):
        _, axes = new_figure(2, 2)
        draw(axes)
        digits = {cell: text for cell, (text, _, _) in texts(axes).items()}
        assert digits == {
            cell: "?" if digit < 0 else str(digit)
            for cell, digit in enumerate(grid.tolist())
            if digit
        }
    assert row.output["answer"] == (found[row.output["steps"] - 1] + 1).tolist()
