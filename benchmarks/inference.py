"""How many more puzzles a second does halting solve than full depth, and what does it cost?

`python -m benchmarks.inference`: the 6 x 6 test puzzles of the set that ships, with the weights
that ship; with `--run DIR` the test puzzles of that run as well, 9 x 9 mazes for instance. What is
timed is what `solve` does with each batch of texts after those that it begins with: one solver that
stays, which on a GPU works by CUDA graphs that were recorded before. It is stopped where its head
is surer than the threshold that was tuned on validation, against the same solver at full depth.
Nothing is chosen here, so looking at the test puzzles' solutions leads to no better score.

Beside it: what is gained by working on the rows that are left only (`compaction`).
"""

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from .in_turns import in_turns, ratio, told
from .peer_scripts import Line, check_shared, conclude, peer_parser, shown, use_our_package

WEIGHTS = "sudoku6"
LEAST_RATIO = 2.5
MOST_POINTS_LOST = 1.0
NEVER_SURE = 1.0
"""A threshold that no probability is above."""
SINGLE = 48
"""Puzzles that are solved one at a time; all of them would take minutes."""
COMPACTED = 256
"""Puzzles that compaction is looked at with."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A trained model in eval mode on its device, and puzzles with their solutions, as text."""

    name: str
    task: Any
    model: Any
    threshold: float
    max_steps: int
    puzzles: Sequence[str]
    solutions: Sequence[str]

    @cached_property
    def solver(self) -> Any:
        """What solves all batches, as in `solve`: it keeps what it has recorded on a GPU."""
        from reference_reasoner.reasoner.tasks.solving import BatchSolver

        return BatchSolver(self.model)


def shipped_case(device: torch.device, most: int | None) -> Case:
    """The weights that ship, on the test puzzles that ship; at most so many of them."""
    from reference_reasoner.reasoner.tasks.shipped import shipped_weights

    from .project_of_reference import REFERENCE

    (shipped,) = (each for each in shipped_weights() if each.name == WEIGHTS)
    kind = REFERENCE.task_type(shipped.task)
    task: Any = kind(kind.presets[shipped.preset]())
    model = task.build_model()
    model.load_state_dict(shipped.tensors())
    name = f"6 x 6 test puzzles, {WEIGHTS}"
    return _case(name, task, model, shipped.threshold, device, most)


def run_case(run: str, device: torch.device, most: int | None) -> Case:
    """A run's best weights on the test split of its own data. Raises RefusedInputError."""
    from reference_reasoner.reasoner.commands.solve_weights import trained_weights

    from .project_of_reference import REFERENCE

    (trained,) = trained_weights(REFERENCE, run)
    rows = trained.task.size
    name = f"{rows} x {rows} {trained.task.name} test puzzles, {Path(run).name}"
    return _case(name, trained.task, trained.model, trained.threshold, device, most)


def _case(
    name: str, task: Any, model: Any, threshold: float, device: torch.device, most: int | None
) -> Case:
    split = task.datasets().test
    examples = [split.example(index, None) for index in evenly(len(split), most)]
    return Case(
        name=name,
        task=task,
        model=model.to(device).eval(),
        threshold=threshold,
        max_steps=task.reasoner.halting.max_steps,
        puzzles=[task.answer(each["tokens"].tolist()) for each in examples],
        solutions=[task.answer(each["labels"].tolist()) for each in examples],
    )


def evenly(count: int, most: int | None) -> list[int]:
    """At most `most` of the indices below `count`, from all over them; None takes all."""
    kept = count if most is None else min(most, count)
    return [index * count // kept for index in range(kept)]


def measured(case: Case, device: torch.device, *, batch: int, repetitions: int) -> dict[str, Any]:
    """Speed and accuracy, with halting and at full depth, in batches of so many puzzles."""
    from reference_reasoner.reasoner.tasks.solving import attempt

    batches = _batches(case.puzzles, batch)
    found: dict[str, dict[int, list[Any]]] = {"halting": {}, "full": {}}

    def way(name: str, threshold: float) -> Callable[[int], object]:
        def solve(turn: int) -> None:
            options: dict[str, Any] = {"threshold": threshold, "max_steps": case.max_steps}
            found[name][turn] = attempt(case.task, case.solver, batches[turn], **options)

        return solve

    ways = {"halting": way("halting", case.threshold), "full": way("full", NEVER_SURE)}
    # a solver's very first batch records nothing, and each later one the sizes that are new to it:
    # so all are solved once, and the first again where `in_turns` calls each way beforehand
    for turn in range(len(batches)):
        for solve in ways.values():
            solve(turn)
    seconds = in_turns(ways, device, repetitions=repetitions, turns=len(batches))
    told_of = {
        name: _scored([each for turn in sorted(turns) for each in turns[turn]], case)
        for name, turns in found.items()
    }
    count = len(case.puzzles)
    for name, scores in told_of.items():
        scores["puzzles_per_s"] = count / statistics.median(seconds[name])
    return {
        "batch": batch,
        "puzzles": count,
        **told_of,
        "seconds": seconds,
        "full_over_halting": ratio(seconds["full"], seconds["halting"]),
        "points_lost": 100 * (told_of["full"]["accuracy"] - told_of["halting"]["accuracy"]),
    }


def _scored(attempts: Sequence[Any], case: Case) -> dict[str, float]:
    """What came out, beside the solutions. Raises ValueError where it is of other puzzles."""
    if [each.puzzle for each in attempts] != list(case.puzzles):
        raise ValueError("the attempts are not of the puzzles that were handed in")
    pairs = zip(attempts, case.solutions, strict=True)
    right = sum(each.solution == solution for each, solution in pairs)
    steps = [each.steps for each in attempts]
    return {"accuracy": right / len(attempts), "mean_steps": statistics.mean(steps)}


def compaction(case: Case, device: torch.device, *, batch: int, repetitions: int) -> dict[str, Any]:
    """Seconds of the network with each form of compaction, and their ratios to the exact one."""
    tokens = [
        torch.tensor([case.task.tokens(puzzle) for puzzle in puzzles], device=device)
        for puzzles in _batches(case.puzzles[:COMPACTED], batch)
    ]

    def way(form: str) -> Callable[[int], object]:
        def solve(turn: int) -> None:
            options = {"threshold": case.threshold, "max_steps": case.max_steps}
            with torch.no_grad():
                case.model.solve(tokens[turn], compaction=form, **options).steps.tolist()

        return solve

    forms = ("exact", "powers_of_two", "none")
    ways = {form: way(form) for form in forms}
    seconds = in_turns(ways, device, repetitions=repetitions, turns=len(tokens))
    ratios = {f"{form}_over_exact": ratio(seconds[form], seconds["exact"]) for form in forms[1:]}
    return {"batch": batch, "puzzles": sum(map(len, tokens)), "seconds": seconds, **ratios}


def _batches(texts: Sequence[str], size: int) -> list[list[str]]:
    return [list(texts[start : start + size]) for start in range(0, len(texts), size)]


def judged(case: str, found: Mapping[str, Any]) -> Line:
    """Whether halting pays and costs no more than it may."""
    halting, full = found["halting"], found["full"]
    return Line(
        claim=f"{case}, batch {found['batch']}: full depth's time over halting's",
        required=f">= {LEAST_RATIO:g}, at most {MOST_POINTS_LOST:g} point lost",
        measured=f"{told(found['full_over_halting'])}; "
        f"{halting['puzzles_per_s']:.3g} against {full['puzzles_per_s']:.3g} puzzles/s; "
        f"{100 * halting['accuracy']:.2f} against {100 * full['accuracy']:.2f} % of "
        f"{found['puzzles']} right, {halting['mean_steps']:.2f} steps",
        holds=found["full_over_halting"]["median"] >= LEAST_RATIO
        and found["points_lost"] <= MOST_POINTS_LOST,
    )


def told_compaction(case: str, found: Mapping[str, Any]) -> list[Line]:
    """What other forms of compaction take, of which nothing is required."""
    return [
        Line(
            claim=f"{case}, batch {found['batch']}: compaction `{form}` over `exact`, time",
            required="reported",
            measured=told(found[f"{form}_over_exact"]),
            holds=None,
        )
        for form in ("powers_of_two", "none")
    ]


def main(argv: list[str]) -> int:
    """Measure, print, write; 1 where the requirement does not hold."""
    parser = peer_parser("inference", __doc__)
    parser.add_argument("--run", metavar="DIR", help="a run on puzzles, as well")
    parser.add_argument("--puzzles", type=int, metavar="N", help="fewer puzzles; default: all")
    flags = parser.parse_args(argv)
    device = check_shared(parser, flags)
    if flags.puzzles is not None and flags.puzzles < 1:
        parser.error(f"--puzzles {flags.puzzles}: at least one")
    use_our_package()
    from reference_reasoner.engine.errors import RefusedInputError
    from reference_reasoner.reasoner.commands.solve import BATCH

    try:
        cases = [shipped_case(device, flags.puzzles)]
        cases += [] if flags.run is None else [run_case(flags.run, device, flags.puzzles)]
    except RefusedInputError as error:
        parser.error(str(error))
    lines, figures = [], {}
    for case in cases:
        options = {"repetitions": flags.repetitions}
        together = measured(case, device, batch=BATCH, **options)
        lines.append(shown(judged(case.name, together)))
        alone = measured(fewer(case, SINGLE), device, batch=1, **options)
        lines.append(shown(judged(case.name, alone)))
        forms = compaction(case, device, batch=BATCH, **options)
        lines += [shown(line) for line in told_compaction(case.name, forms)]
        figures[case.name] = {"together": together, "alone": alone, "compaction": forms}
    return conclude(lines, {"inference": figures}, device, flags.json)


def fewer(case: Case, most: int) -> Case:
    """The same with at most so many puzzles, from all over them."""
    kept = evenly(len(case.puzzles), most)
    return replace(
        case,
        puzzles=[case.puzzles[index] for index in kept],
        solutions=[case.solutions[index] for index in kept],
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
