"""`maze_file N FILE`: write N fresh mazes as `solve` reads them; run in the reference project."""

import sys
from pathlib import Path

from reference_reasoner.reasoner.data.maze_rules import to_text
from reference_reasoner.reasoner.data.mazes import MazeDataConfig, Mazes

SEED = 606


def main(count: int, path: Path) -> None:
    """Write mazes of the default size that no training has seen."""
    mazes = Mazes(config=MazeDataConfig(seed=SEED, test_examples=count), split="test")
    texts = [to_text(mazes.maze(index).text) for index in range(count)]
    path.write_text("\n\n".join(texts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
