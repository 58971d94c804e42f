"""`study`: train variations of a preset with several seeds, and compare them."""

import argparse
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..project import Project, runs_folder
from .parser import Parser

if TYPE_CHECKING:
    from ..config.run_config import RunConfig
    from ..config.sources import Sourced


def main(argv: Sequence[str], project: Project) -> int:
    """Run the command `study`: carry it out and print its table."""
    parser = _parser(project)
    flags, config_flags = parser.parse_known_args(argv)
    seeds = _seeds(parser, flags.seeds)
    _check(parser, flags)

    from ..config.sources import Sourced
    from ..studies.study import BASELINE, Plan, Study, carry_out

    task_type = project.task_type(project.task_of_preset(flags.preset))
    preset = Sourced(config=task_type.config_type())
    preset = preset.with_preset(task_type.presets[flags.preset](), flags.preset)
    base, changes = _changed(preset, config_flags, parser.flag_names())
    variations: dict[str, Mapping[str, Any]] = {BASELINE: {}}
    if flags.kind == "ablate":
        variations |= _variations(parser, base, flags.vary, task_type.ablations)
    study = Study(
        plan=Plan(
            kind=flags.kind,
            preset=flags.preset,
            changes=changes,
            variations=variations,
            seeds=seeds,
        ),
        task=task_type(base.config),
        folder=_from_here(flags.study_dir or runs_folder() / f"{flags.kind}-{flags.preset}"),
        processes=flags.processes or _processes(base.config),
        start=project.command,
        argv=("study", *argv),
        test=flags.test,
        again=flags.again,
    )
    return carry_out(study)


def _parser(project: Project) -> Parser:
    parser = Parser(
        "study",
        description="Train a preset with several seeds, and with `ablate` also variations of it, "
        "some at a time, and compare them on the same examples. --section.field VALUE changes "
        "every run. The same command goes on after a kill, and adds variations and seeds.",
    )
    add = parser.add_argument
    add("kind", choices=["seeds", "ablate"], help="the preset alone, or with variations of it")
    add("preset", metavar="PRESET", help=f"one of {', '.join(project.presets)}")
    add("--seeds", default="0,1,2", metavar="N,...", help="default: %(default)s")
    add(
        "--vary",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "FIELD=VALUE"),
        help="a variation: a name, and what differs; can be given again; default: the task's own",
    )
    add("--processes", type=int, metavar="P", help="runs at a time; default: one a free core")
    add("--study-dir", type=Path, metavar="DIR", help="default: runs/<kind>-<preset>")
    add("--test", action="store_true", help="at the end, open the test split once for all runs")
    add("--again", metavar="REASON", help="with --test: open it although it was opened before")
    return parser


def _check(parser: Parser, flags: argparse.Namespace) -> None:
    if flags.vary and flags.kind == "seeds":
        parser.error("--vary belongs to `study ablate`: `study seeds` trains the preset alone")
    if flags.processes is not None and flags.processes < 1:
        parser.error(f"--processes {flags.processes}: at least 1")
    if flags.again is not None and not flags.test:
        parser.error("--again says why --test opens the test split once more: give --test, too")


def _seeds(parser: Parser, text: str) -> tuple[int, ...]:
    try:
        seeds = [int(word) for word in text.split(",")]
    except ValueError:
        parser.error(f"--seeds {text}: write whole numbers with commas between them")
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        parser.error(f"--seeds {text}: each at least 0, and none twice")
    return tuple(seeds)


def _changed(
    sourced: "Sourced", flags: Sequence[str], own_flags: Sequence[str]
) -> tuple["Sourced", dict[str, Any]]:
    """The config with `flags` over it, and {dotted field: value} of what they name.

    Raises ConfigError where they do not fit.
    """
    from ..config.fields import flatten

    changed = sourced.with_flags(flags, own_flags)
    named = {name for name, source in changed.sources.items() if source == "flag"}
    return changed, {k: v for k, v in flatten(changed.config).items() if k in named}


def _variations(
    parser: Parser,
    base: "Sourced",
    asked: Sequence[Sequence[str]],
    own: Mapping[str, Mapping[str, Any]],
) -> dict[str, Mapping[str, Any]]:
    """The variations that `study` is asked for, or the task's own; each is tried on the config.

    Raises ConfigError where one does not fit.
    """
    from ..studies.study import BASELINE

    if not asked and not own:
        parser.error("this task has no ablations of its own: name some with --vary")
    if not asked:
        for name, changes in own.items():
            base.overlaid(changes, f"variation {name}")
        return {name: dict(changes) for name, changes in own.items()}
    found: dict[str, Mapping[str, Any]] = {}
    for name, *assignments in asked:
        if not name.replace("_", "").replace("-", "").isalnum() or name in {BASELINE, *found}:
            parser.error(
                f"--vary {name}: a name has letters, digits, - and _, is not {BASELINE}, and "
                "stands once"
            )
        words: list[str] = []
        for assignment in assignments:
            field, equals, value = assignment.partition("=")
            if not equals or field == "seed":
                parser.error(f"--vary {name} {assignment}: write FIELD=VALUE, not of the seed")
            words += [f"--{field}", *shlex.split(value)]
        if not words:
            parser.error(f"--vary {name}: say what differs, FIELD=VALUE")
        preset_alone = replace(base, sources={})  # so that its own flags do not count
        found[name] = _changed(preset_alone, words, [])[1]
    return found


def _from_here(folder: Path) -> Path:
    """Relative where it is below the working directory: study.json then names no machine's path."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def _processes(config: "RunConfig") -> int:
    """Runs of a study side by side: one a device, or as many as have a core for each thread."""
    from ..training.device import choose_device

    if choose_device(config.runtime).type != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // config.runtime.threads)
