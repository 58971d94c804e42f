"""One piece of the GPU work: its stages, whose outcomes are written when they are there."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import gpu_data, gpu_runs
from .gpu_project import Budget, PieceError, Project, commit, machine
from .gpu_recipes import MODELS, OFFICIAL_SHAPE, Recipe, annealed, official_flags, rehearsed

OFFICIAL_S = 40.0
"""Seconds of steps of the official code and ours in turns, warm-up not counted."""
STEPS_S = 2.5
"""Seconds of steps of one recipe in one mode, likewise."""
STEPS_LIMIT_S = 150.0
"""More, and the stage is given up: a compilation may hang."""
EVALUATION_EVERY_S = 20.0
MORE_STEPS = 64
"""Supervision steps of a second look at how far the favoured model gets; 16 in training."""
REHEARSED = {"steps_s": 0.2, "train_s": 2.5, "every_steps": 10}
REHEARSED_SHAPE = {"batch_size": 8, "H_cycles": 2, "L_cycles": 1, "L_layers": 2, "width": 64}
REHEARSED_PARTS = {"minimal": 40}
LEAST_TO_SCORE_S = 12.0
LEAST_S = 30.0
"""A training of less would only start."""
PATHS = ("out", "work", "data", "project", "official", "foreign")
"""Flags whose values are paths of a machine: results name the flag instead."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What was asked for; paths are absolute."""

    out: Path | None
    work: Path
    data: Path | None
    origin: Path
    official: Path | None
    minutes: float
    models: Sequence[str]
    favour: str | None
    foreign: Path | None
    anneal: bool
    final: bool
    commit: str | None
    more: Sequence[str]
    rehearse: bool

    @property
    def recipes(self) -> dict[str, Recipe]:
        """{name: recipe} of every model."""
        return {n: rehearsed(each) if self.rehearse else each for n, each in MODELS.items()}


@dataclass(kw_only=True)
class Piece:
    """One piece at work."""

    name: str
    settings: Settings
    budget: Budget
    project: Project
    data: Path
    result: dict[str, Any]
    problems: list[str] = field(default_factory=list)

    @classmethod
    def begin(cls, name: str, settings: Settings) -> "Piece":
        """With the project's copy, and the data made where they are not there."""
        budget = Budget.of_minutes(settings.minutes)
        project = Project.in_folder(settings.work, settings.origin)
        data = settings.data or settings.work / "data"
        result = {
            "piece": name,
            "rehearsal": settings.rehearse,
            "command": command_line(sys.argv[1:]),
            "commit": settings.commit or commit(),
            "machine": machine(),
            "models": {},
        }
        piece = cls(
            name=name, settings=settings, budget=budget, project=project, data=data, result=result
        )
        small = (REHEARSED_PARTS, 1) if settings.rehearse else (gpu_data.PARTS, None)
        piece.keep(data=gpu_data.make(project, data, *small))
        return piece

    def keep(self, **found: Any) -> None:
        """Add a stage's outcome to the JSON, in `--out` and for a later piece in `--work`."""
        self.result |= found
        self.result["seconds"] = self.budget.used
        assert self.settings.out is not None
        text = json.dumps(self.result, indent=1) + "\n"
        for name, path in self._paths().items():
            text = text.replace(str(path), name)
        for folder in (self.settings.out, self.settings.work):
            (folder / f"{self.name}.json").write_text(text, encoding="utf-8")
        said = f" {found['stage']}" if "stage" in found else f" {', '.join(found)}"
        print(f"[{self.budget.used:5.0f} s] {self.name}:{said}", flush=True)

    def _paths(self) -> dict[str, Path]:
        """{how results call it: a path of this machine}; those inside others come first."""
        named = {"DATA": self.data, "WORK": self.settings.work, "OUT": self.settings.out}
        named |= {"OFFICIAL": self.settings.official, "PROJECT": self.settings.origin}
        named |= {"FOREIGN": self.settings.foreign}
        return {name: path for name, path in named.items() if path is not None}

    def steps(self, models: Sequence[str], *, with_official: bool) -> None:
        """Time steps; a problem is kept, and nothing that follows depends on it."""
        settings, recipes = self.settings, self.settings.recipes
        own = [*settings.more, f"--runtime.device={self.device}"]
        shape = REHEARSED_SHAPE if settings.rehearse else OFFICIAL_SHAPE
        asked = {
            "seconds": REHEARSED["steps_s"] if settings.rehearse else STEPS_S,
            "models": {
                n: {
                    "preset": recipes[n].preset,
                    "flags": [*recipes[n].flags(), *own],
                    "compile": recipes[n].compiles and not settings.rehearse,
                }
                for n in models
            },
            "official": with_official
            and {
                "checkout": str(settings.official) if settings.official else None,
                "seconds": REHEARSED["steps_s"] if settings.rehearse else OFFICIAL_S,
                "shape": shape,
                "flags": official_flags(shape, self.device),
            },
        }
        try:
            found = self.project.answer("benchmarks.gpu_steps", asked=asked, limit_s=STEPS_LIMIT_S)
        except PieceError as error:
            self.problems.append(str(error))
            found = {"problem": str(error), "models": {}}
        self.keep(steps=found)

    @property
    def device(self) -> str:
        """A piece that finds no GPU must fail, not crawl."""
        return "cpu" if self.settings.rehearse else "cuda"

    def train(self, model: str, seconds: float, *, compiled: bool) -> None:
        """Train for so many seconds, score on validation, keep both or the problem."""
        settings = self.settings
        if settings.rehearse:
            seconds = REHEARSED["train_s"]
        assert settings.out is not None
        try:
            if "problem" in (times := self._times(model, compiled)):
                raise PieceError(f"{model} is not trained, its steps failed: {times['problem']}")
            if seconds < LEAST_S and not settings.rehearse:
                raise PieceError(f"{max(0.0, seconds):.0f} s are too few to train {model}")
            found = gpu_runs.train(
                self.project,
                model,
                settings.recipes[model],
                self._flags(model, compiled, seconds),
                settings.out / f"{self.name}.log",
                seconds=seconds,
                from_loop=settings.rehearse,
            )
            self.result["models"][model] = found
            self.keep(stage=f"{model} is trained")
            found["validation"] = gpu_runs.evaluate(self.project, model, "--split", "validation")
        except PieceError as error:
            self.problems.append(str(error))
            self.result["models"].setdefault(model, {})["problem"] = str(error)
        self.keep(stage=f"{model} is scored")

    def _times(self, model: str, compiled: bool) -> dict[str, Any]:
        """What the stage of steps found of a model; nothing where that stage was given up."""
        modes = self.result.get("steps", {}).get("models", {}).get(model, {})
        return modes.get("compiled" if compiled else "eager", {})

    def _flags(self, model: str, compiled: bool, seconds: float) -> list[str]:
        times = self._times(model, compiled)
        every = REHEARSED["every_steps"] if self.settings.rehearse else 500
        if "median_ms" in times and not self.settings.rehearse:
            every = max(20, round(1e3 * EVALUATION_EVERY_S / times["median_ms"]))
        workers = 0 if self.settings.rehearse else max(1, min(8, machine()["cores"] - 2))
        values = {
            "evaluation.every-steps": every,
            "runtime.compile": compiled,
            "runtime.device": self.device,
            "runtime.loader-workers": workers,
            "data.folder": self.data,
        }
        if not self.project.run_dir(model).exists():  # a run that goes on has its own
            values["training.accumulation-steps"] = times.get("accumulation_steps", 1)
            if self.settings.anneal and "median_ms" in times:
                values |= annealed(times, seconds)
        return [*self.settings.more, *(f"--{name}={value}" for name, value in values.items())]

    def weights(self, model: str) -> None:
        """Keep the averaged weights, as float16, in files that travel."""
        prefix = f"{self.settings.out}/{self.name}-{model}"
        try:
            paths = self.project.answer("benchmarks.gpu_inside", "weights", model, prefix)
            self.keep(weights={"model": model, "dtype": "float16", "files": _names(paths)})
        except PieceError as error:
            self.problems.append(str(error))

    def look_again(self, model: str) -> None:
        """Score validation with more steps, and the foreign puzzles where there are some."""
        more = 2 if self.settings.rehearse else MORE_STEPS
        words = ["--split", "validation", "--steps", str(more)]
        self.keep(validation_with_more_steps=self._score(model, words))
        if self.settings.foreign is not None:
            self.keep(foreign=self._score(model, ["--file", str(self.settings.foreign)]))

    def final(self, favoured: str) -> None:
        """Score the runs that are there on the test split, once for all of them, it first."""
        there = [name for name in MODELS if self.project.run_dir(name).is_dir()]
        found = {}
        for model in sorted(there, key=lambda name: name != favoured):
            again = ["--again", gpu_runs.REASON] if gpu_runs.openings(self.project) else []
            found[model] = self._score(model, ["--split", "test", *again])
        scored = {model: each for model, each in found.items() if each is not None}
        self.keep(test=scored, test_ledger=gpu_runs.openings(self.project))

    def _score(self, model: str, words: Sequence[str]) -> dict[str, Any] | None:
        try:
            if self.budget.left < LEAST_TO_SCORE_S and not self.settings.rehearse:
                raise PieceError(f"{max(0.0, self.budget.left):.0f} s are too few to score {model}")
            return gpu_runs.evaluate(self.project, model, *words)
        except PieceError as error:
            self.problems.append(str(error))
            return None


def command_line(argv: Sequence[str]) -> str:
    """The command for people, without the paths of a machine."""
    words = ["python", "-m", "benchmarks.gpu_training"]
    for before, word in zip(["", *argv], argv, strict=False):
        name = before.removeprefix("--")
        words.append(name.upper() if before == f"--{name}" and name in PATHS else word)
    return " ".join(words)


def _names(paths: Sequence[str]) -> list[str]:
    return [Path(path).name for path in paths]
