"""`python -m tests.reasoner.models.parameter_table`: the parameters of each preset by component.

Prints the table of ARCHITECTURE.md, counted on models without memory; `--write` puts it there.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reference_reasoner import reasoner
from reference_reasoner.engine.training.task import Task
from reference_reasoner.reasoner.tasks.recall import RecallTask
from reference_reasoner.reasoner.tasks.sudoku import SudokuTask

DOCUMENT = Path(str(reasoner.__file__)).with_name("ARCHITECTURE.md")
START = "<!-- parameter table: python -m tests.reasoner.models.parameter_table --write -->"
END = "<!-- end of the parameter table -->"
TASKS: dict[str, type[Task[Any]]] = {
    "grid25m": SudokuTask,
    "lm25m": RecallTask,
    "trm7m": SudokuTask,
    "trm7m_mixing": SudokuTask,
}
BLOCK = r"backbone\.blocks\.\d+\."
COMPONENTS = {
    "attention": BLOCK + r"attention\..*",
    "mixing over positions": BLOCK + r"mix_positions\..*",
    "memory projections": BLOCK + r"memory\.(qkv|out)\..*",
    "convolution": BLOCK + r"memory\.convolution\..*",
    "token gates": BLOCK + r"memory\.gates\..*",
    "MAG gate": BLOCK + r"gate\.linear\..*",
    "initial memories": BLOCK + r"memory\.initial\..*",
    "gains": BLOCK + r"(memory\.norm|gate\.(attention|memory)_gain)",
    "feed-forward": BLOCK + r"feed_forward\..*",
    "embedding": r"embedding\..*",
    "head": r"head\..*",
    "persistent tokens": r"persistent",
    "halting head": r"halting\..*",
}
"""{row: what the names of its parameters look like}."""


def model_of(preset: str) -> nn.Module:
    """The preset's model on the meta device."""
    task = TASKS[preset]
    with torch.device("meta"):
        return task(task.presets[preset]()).build_model()


def component(name: str) -> str:
    """The one row that a parameter belongs to; raises LookupError where it is not one."""
    found = [row for row, pattern in COMPONENTS.items() if re.fullmatch(pattern, name)]
    if len(found) != 1:
        raise LookupError(f"the parameter {name} belongs to {found or 'no component'}")
    return found[0]


def counts(model: nn.Module) -> Counter[str]:
    """{component: parameters}, and `total`."""
    found: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        found.update({component(name): parameter.numel(), "total": parameter.numel()})
    return found


def table() -> str:
    """Components by presets, in Markdown; `-` where a preset has none."""
    columns = [counts(model_of(preset)) for preset in TASKS]
    lines = [["component", *TASKS], ["---", *["---:"] * len(columns)]]
    for row in COMPONENTS:
        lines.append([row, *(f"{each[row]:,}" if each[row] else "-" for each in columns)])
    lines.append(["**total**", *(f"**{each['total']:,}**" for each in columns)])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def split(text: str) -> tuple[str, str, str]:
    """The document before its table, the table, and after; raises ValueError without marks."""
    before, start, rest = text.partition(START + "\n")
    inside, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"{DOCUMENT} needs the two lines {START} and {END} around its table")
    return before + start, inside, end + after


def main(argv: Sequence[str]) -> int:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"rewrite it in {DOCUMENT.name}")
    if not parser.parse_args(argv).write:
        print(table(), end="")
        return 0
    before, _, after = split(DOCUMENT.read_text(encoding="utf-8"))
    DOCUMENT.write_text(before + table() + after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
