"""What the tasks share whose examples people hand in as text: reading, judging, scoring a file."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, Generic

from ...engine.config.fields import flatten
from ...engine.data.dataset import Dataset
from ...engine.errors import RefusedInputError
from ...engine.training.task import FileExamples
from ..data.puzzle_files import Given
from .deep_supervision import ConfigT, DeepSupervisionTask


class PuzzleTask(DeepSupervisionTask[ConfigT], Generic[ConfigT]):
    """A task on puzzles: text in, solutions as text out; rules, not labels, judge them."""

    form: ClassVar[str]
    """How a file must be written, as an error puts it."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Rows of the puzzles that the model takes."""

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """Token ids there are."""

    @abstractmethod
    def given(self, file: IO[bytes]) -> Iterator[Given]:
        """Read a file of puzzles of any size, and the places that hold none."""

    @abstractmethod
    def tokens(self, puzzle: str) -> list[int]:
        """Encode a puzzle as the model's input tokens."""

    @abstractmethod
    def answer(self, tokens: Sequence[int]) -> str:
        """Decode the model's answer to a puzzle as text; padding is no part of any solution."""

    @abstractmethod
    def is_solution(self, puzzle: str, answer: str) -> bool:
        """Whether `answer` keeps the rules and everything that `puzzle` gives."""

    @abstractmethod
    def grid(self, text: str) -> str:
        """A puzzle or an answer as lines for a terminal."""

    @abstractmethod
    def labelled(self, puzzles: Sequence[Given]) -> tuple[Dataset, list[Given]]:
        """Puzzles with their solutions, and those that have not exactly one, with the problem."""

    def facts(self) -> dict[str, Any]:
        """The sizes that the weights can do, and what model they are for."""
        return {"sizes": [self.size], "model_config_sha256": self.model_config_sha256()}

    def model_config_sha256(self) -> str:
        """sha256 of all that decides what the weights mean: task, model, vocabulary, size."""
        model = flatten(self.config.model)  # type: ignore[attr-defined]
        del model["recursion.shallow_share"]  # how they came about, not what they mean
        if model["backbone.memory.write"] == "every_pass":
            del model["backbone.memory.write"]  # all weights are such that are older than the field
        whole = {"task": self.name, "vocabulary": self.vocabulary, "size": self.size, **model}
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()

    def examples_of(self, path: Path) -> FileExamples:
        """The puzzles of a file that have one solution, and a line about each other one.

        Raises RefusedInputError for a file that cannot be read or holds no such puzzle.
        """
        kept: list[Given] = []
        left_out: list[Given] = []
        try:
            with path.open("rb") as file:
                for given in self.given(file):
                    if not given.problem and given.size != self.size:
                        problem = f"it has {given.size} rows, the run's puzzles have {self.size}"
                        given = Given(line=given.line, problem=problem)
                    (left_out if given.problem else kept).append(given)
        except OSError as error:
            raise RefusedInputError(
                f"{path} cannot be read: {error.strerror}; name a file of puzzles"
            ) from error
        dataset, refused = self.labelled(kept)
        left_out += refused
        if not len(dataset):
            named = f"; line {left_out[0].line}: {left_out[0].problem}" if left_out else ""
            raise RefusedInputError(f"{path} holds no puzzle to score: write {self.form}{named}")
        told = [f"line {each.line} is left out: {each.problem}" for each in left_out]
        return FileExamples(dataset=dataset, left_out=told)
