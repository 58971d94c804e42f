"""The weights that come with the package are whole, and solve puzzles that nobody trained on."""

import json
from pathlib import Path

from reference_reasoner.engine.training.checkpoint import weights_sha256
from reference_reasoner.reasoner.commands.solve_weights import Trained, trained_weights
from reference_reasoner.reasoner.data.sudoku_generator import puzzle_at
from reference_reasoner.reasoner.data.sudoku_rules import to_line
from reference_reasoner.reasoner.models.serving.cuda_graph import Run
from reference_reasoner.reasoner.tasks import shipped
from reference_reasoner.reasoner.tasks.shipped import shipped_weights
from reference_reasoner.reasoner.tasks.solving import Attempt, BatchSolver, attempt

from ..command_line import OWN


def test_what_ships_is_whole_small_and_solves_puzzles(project: Path) -> None:
    entries = shipped_weights()
    sizes = [size for entry in entries for size in entry.sizes]
    assert sorted(sizes) == [4, 6]
    assert sum(entry.path.stat().st_size for entry in entries) < 4_000_000
    listed = {entry.path.name for entry in entries} | {"manifest.json"}
    assert {path.name for path in shipped.FOLDER.iterdir()} == listed
    for entry in entries:
        assert weights_sha256(entry.tensors()) == entry.trained["weights_sha256"]
    for trained in trained_weights(OWN, None):
        (size,) = trained.sizes
        puzzles = [to_line(puzzle_at(77, size, "mixed", index).puzzle) for index in range(34)]
        found = attempt(
            trained.task,
            trained.model,
            puzzles,
            threshold=trained.threshold,
            max_steps=trained.max_steps,
        )
        assert sum(each.solved for each in found) >= 31
        assert len({each.steps for each in found}) > 1
        again = by_recordings(trained, puzzles)
        assert [(each.solution, each.steps) for each in again] == [
            (each.solution, each.steps) for each in found
        ]


def by_recordings(trained: Trained, puzzles: list[str]) -> list[Attempt]:
    """In batches of 11, as a GPU solves them: all but the first by recorded fused blocks."""
    recorded: list[Run] = []

    def capture(run: Run) -> Run:
        recorded.append(run)
        return run

    solver = BatchSolver(trained.model, capture=capture)
    found: list[Attempt] = []
    for start in range(0, len(puzzles), 11):
        found += attempt(
            trained.task,
            solver,
            puzzles[start : start + 11],
            threshold=trained.threshold,
            max_steps=trained.max_steps,
        )
        assert bool(recorded) == (start > 0)
    assert len(recorded) <= 5  # 16, 8, 4, 2, 1
    return found


def test_the_manifest_is_valid_json_with_sorted_names() -> None:
    entries = json.loads((shipped.FOLDER / "manifest.json").read_text())
    assert list(entries) == sorted(entries)
