"""The tasks that this project trains, and the commands that they bring.

Names only: a task is imported when it is asked for, so that `--help` need not wait for torch.
"""

TASKS: dict[str, str] = {
    "sudoku": ".reasoner.tasks.sudoku:SudokuTask",
    "mazes": ".reasoner.tasks.mazes:MazeTask",
    "recall": ".reasoner.tasks.recall:RecallTask",
}
"""{task name: "<module>:<class>"}; the first is the default."""

PRESETS: dict[str, str] = {
    "default": "sudoku",
    "grid25m": "sudoku",
    "lm25m": "recall",
    "maze": "mazes",
    "maze_smoke": "mazes",
    "recall": "recall",
    "recall_smoke": "recall",
    "smoke": "sudoku",
    "sudoku4": "sudoku",
    "sudoku6_mixing": "sudoku",
    "sudoku9": "sudoku",
    "trm7m": "sudoku",
    "trm7m_mixing": "sudoku",
}
"""{preset name: the task that it belongs to}; a preset's name chooses the task."""

BENCHED: str | None = "grid25m"
"""The preset that `nox -s gpu_bench` takes: the model that is meant for use; None: the first."""

COMMANDS: dict[str, tuple[str, str]] = {
    "solve": (".reasoner.commands.solve:main", "let trained weights solve a file of puzzles"),
    "generate": (
        ".reasoner.commands.generate:main",
        "make Sudoku puzzles that have one solution",
    ),
    "ship": (".reasoner.commands.ship:main", "put a run's weights into the package, for `solve`"),
    "distances": (".reasoner.commands.distances:main", "score a run on recall at longer distances"),
}
"""{command: ("<module>:<function>", help)}; the function takes the rest of the command line and
the project, and returns an exit code."""
