"""The pieces of the GPU work: what is done in which order, and how the seconds are shared out."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from . import gpu_plan
from .gpu_piece import Piece, Settings
from .gpu_project import Project
from .gpu_recipes import FAVOURITE

FIRST_STEPS_STAGE_S, SECOND_STEPS_STAGE_S = 95.0, 40.0
"""Expected seconds of these stages: processes, warm-up and compilation counted."""
SCORING_S = 20.0
"""Kept free after each training, to save and to score, and for each look at the favoured model."""
RESERVE_S = 15.0
"""Kept free at the end of a piece."""
WORTH_COMPILING = 1.1
"""Steps with compilation over those without, at least."""


def data(settings: Settings) -> list[str]:
    """Make the data only."""
    return Piece.begin("data", settings).problems


def first(settings: Settings) -> list[str]:
    """Steps, the official ones beside ours, then each model for equal seconds."""
    piece = Piece.begin("first", settings)
    piece.steps(settings.models, with_official=True)
    seconds = _equal_share(piece.budget.left, len(settings.models))
    for model in settings.models:
        compiled = pays(piece.result["steps"]["models"].get(model, {}), seconds)
        piece.train(model, min(seconds, piece.budget.left - SCORING_S), compiled=compiled)
    best = favoured(piece.result["models"])
    if best is not None:
        piece.weights(best)
    if settings.final:
        piece.final(best or FAVOURITE)
    return piece.problems


def second(settings: Settings) -> list[str]:
    """One model, for what is left after its steps were timed eager and compiled."""
    piece = Piece.begin("second", settings)
    model = settings.favour or _best_of_first(settings.work) or FAVOURITE
    piece.keep(favoured=model)
    piece.steps([model], with_official=False)
    kept_free = _kept_free(settings)
    room = piece.budget.left - kept_free
    times = piece.result["steps"]["models"].get(model, {})
    compiled = pays(times, room)
    piece.train(model, room, compiled=compiled)
    if compiled and "problem" in piece.result["models"][model]:
        piece.train(model, piece.budget.left - kept_free, compiled=False)
    piece.weights(model)
    piece.look_again(model)
    if settings.final:
        piece.final(model)
    return piece.problems


def _kept_free(settings: Settings) -> float:
    """For the scores at the end of the second piece."""
    return RESERVE_S + SCORING_S * (2 + settings.final + (settings.foreign is not None))


PIECES: dict[str, Callable[[Settings], list[str]]] = {
    "data": data,
    "first": first,
    "second": second,
}


def pays(times: Mapping[str, Any], seconds: float) -> bool:
    """Whether compiling gives more steps in so many seconds."""
    eager, compiled = times.get("eager", {}), times.get("compiled", {})
    if "median_ms" not in eager or "median_ms" not in compiled:
        return False
    steps = max(0.0, seconds - compiled["first_steps_s"]) / compiled["median_ms"]
    return bool(steps > WORTH_COMPILING * seconds / eager["median_ms"])


def favoured(models: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The model that is best on the hardest validation puzzles; None where none was scored."""
    scored = {
        name: found["validation"]["scores"].get("accuracy_guesses_5_up", {"value": 0.0})["value"]
        for name, found in models.items()
        if "validation" in found
    }
    return max(scored, key=lambda name: scored[name]) if scored else None


def plan(settings: Settings) -> Iterator[str]:
    """What each stage should give, counted for the flags that would be used."""
    project = Project(folder=settings.origin)
    chosen = settings.favour or _best_of_first(settings.work) or FAVOURITE
    recipes = settings.recipes
    names = [name for name in recipes if name in (*settings.models, chosen)]
    costs = gpu_plan.counted(project, {n: recipes[n] for n in names}, settings.more)
    whole = 60 * settings.minutes
    share = _equal_share(whole - FIRST_STEPS_STAGE_S, len(settings.models))
    ends = _kept_free(settings)
    stages = [("first", "steps: official and ours in turns, each recipe", FIRST_STEPS_STAGE_S)]
    stages += [("first", model, share) for model in settings.models]
    stages += [("first", "scores and weights", SCORING_S * len(settings.models) + RESERVE_S)]
    stages += [("second", f"steps: {chosen}, eager and compiled", SECOND_STEPS_STAGE_S)]
    stages += [("second", chosen, whole - SECOND_STEPS_STAGE_S - ends)]
    stages += [("second", "scores and weights", ends)]
    return gpu_plan.lines(costs, stages)


def _equal_share(seconds: float, models: int) -> float:
    return (seconds - RESERVE_S) / models - SCORING_S


def _best_of_first(work: Path) -> str | None:
    path = work / "first.json"
    if not path.exists():
        return None
    return favoured(json.loads(path.read_text(encoding="utf-8"))["models"])
