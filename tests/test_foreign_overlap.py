"""Foreign puzzles that were trained on are found, however they are turned."""

import json
import os
import subprocess
import sys
from pathlib import Path

from .reference import FOLDER
from .rendering import ROOT

PUZZLES = FOLDER / "src" / "reference_reasoner" / "reasoner" / "data" / "puzzles"
RELABELLED = str.maketrans("123456789", "312897645")


def overlap(*files: Path) -> tuple[int, dict[str, int]]:
    paths = os.pathsep.join([str(FOLDER / "src"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.foreign_overlap", *map(str, files)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)["shared_with"] if done.stdout else {}


def turned(name: str, count: int) -> list[str]:
    """Shipped puzzles, their digits relabelled and rows made columns."""
    lines = (PUZZLES / name).read_text(encoding="ascii").splitlines()
    puzzles = [line.split()[0] for line in lines if not line.startswith("#")][:count]
    return ["".join(p[i::9] for i in range(9)).translate(RELABELLED) for p in puzzles]


def test_a_turned_training_puzzle_is_found(tmp_path: Path) -> None:
    file = tmp_path / "theirs.txt"
    file.write_text("\n".join(turned("9x9-train.txt", 3) + turned("9x9-test.txt", 2)))
    code, shared = overlap(file)
    assert code == 1
    assert shared["shipped 9x9 train"] == 3
    assert shared["shipped 9x9 test"] == 2
    assert shared["shipped 9x9 validation"] == 0


def test_others_are_not_and_more_training_files_count(tmp_path: Path) -> None:
    theirs, more = tmp_path / "theirs.txt", tmp_path / "made.txt"
    theirs.write_text("\n".join(turned("9x9-test.txt", 4)))
    more.write_text("\n".join(turned("9x9-test.txt", 1)))
    assert overlap(theirs)[0] == 0
    code, shared = overlap(theirs, more)
    assert (code, shared["made.txt"]) == (1, 1)
    (tmp_path / "none.txt").write_text("no puzzle")
    assert overlap(tmp_path / "none.txt")[0] == 2
