"""Reading files that people hand in: bounded memory, whatever is in them.

A puzzle stands in one line, or in a block of lines with an empty line after it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

LONGEST_LINE = 4096
"""Bytes; what is longer is no puzzle, and is not kept in memory."""
LONGEST_BLOCK = 256
"""Lines; likewise."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """One place of a file of puzzles: a puzzle, or the reason why it is none."""

    line: int
    """Number of its first line, from 1."""
    puzzle: str = ""
    """Its text in one form, whatever form the file has; empty where there is none."""
    size: int = 0
    """Its rows."""
    problem: str = ""
    """Why it is no puzzle; empty where it is one."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a file."""

    number: int
    """From 1."""
    text: str
    """Without its end; bytes that are not UTF-8 read as U+FFFD."""
    whole: bool
    """False where the line is longer than LONGEST_LINE; `text` is then its beginning."""


def lines(file: IO[bytes]) -> Iterator[Line]:
    """Read every line of a file of puzzles, the empty ones too, with its number."""
    number = 0
    while piece := file.readline(LONGEST_LINE):
        number += 1
        whole = piece.endswith(b"\n") or len(piece) < LONGEST_LINE
        rest = piece
        while not rest.endswith(b"\n") and len(rest) == LONGEST_LINE:
            rest = file.readline(LONGEST_LINE)
        text = piece.decode("utf-8", errors="replace").rstrip("\r\n")
        yield Line(number=number, text=text, whole=whole)


def blocks(file: IO[bytes]) -> Iterator[list[Line]]:
    """Read a file of puzzles in blocks between empty lines; one over LONGEST_BLOCK is cut."""
    block: list[Line] = []
    for line in lines(file):
        if line.text.strip():
            block += [line] if len(block) <= LONGEST_BLOCK else []
        elif block:
            yield block
            block = []
    if block:
        yield block
