"""9 x 9 Sudoku on one GPU in 20 minutes: three models on the same data and device-seconds.

Two pieces of at most ten minutes, each complete in itself: its JSON in `--out` is written after
every stage, so that a piece that is cut off loses one stage.

    python -m benchmarks.gpu_training --piece data  --work W --out O          # any machine, CPU
    python -m benchmarks.gpu_training --piece first --work W --out O --official CHECKOUT
    python -m benchmarks.gpu_training --piece second --work W --out O --final

`first` takes a minute for steps of the official TRM code in turns with ours, times every recipe
eager and compiled, then trains `trm7m_mixing`, `trm7m` and `grid25m` for equal seconds and
scores each on validation by guesses (0, 1 to 4, 5 and more). `second` goes on with the best of
them (or with `--favour`) for the rest of its minutes, from where the first piece left it if
`--work` is still there, else from the beginning, and scores it with more supervision steps too, and
on the puzzles of a `--foreign` file. `--final` then opens the shipped test split, once, for every
model that was trained. `--plan` says what each minute buys and runs nothing; `--rehearse` does
everything on a CPU in about two minutes with networks that learn nothing.

Runs from a checkout with `reference_impl/` in it and installs nothing. Python 3.11 or newer with
torch >= 2.11, numpy, safetensors, matplotlib, typing_extensions. What a machine that only has
torch usually lacks, and has to be carried: tyro, docstring_parser, typeguard, tomli_w. For
`--official` also einops, pydantic, pydantic_core (compiled), annotated_types, typing_inspection.

Leaves with 0; 1 where a stage failed (the others' results are written); 2 for input that cannot
be used.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import ROOT
from .claims import folder_for_output
from .gpu_pieces import PIECES, Settings, plan
from .gpu_project import PieceError
from .gpu_recipes import MODELS


def main(argv: Sequence[str]) -> int:
    """Do one piece, or print the plan, and return the exit code."""
    parser = _parser()
    flags = parser.parse_args(argv)
    settings = _checked(parser, flags)
    try:
        if flags.plan:
            print("\n".join(plan(settings)))
            return 0
        folder_for_output(parser, "--out", settings.out)
        folder_for_output(parser, "--work", settings.work)
        problems = []
        for name in _pieces(flags):
            # a rehearsal of both opens the test split at its very end, as the pieces would
            final = settings.final and (name == "second" or name == flags.piece)
            problems += PIECES[name](replace(settings, final=final))
    except PieceError as error:
        print(f"gpu_training: {error}", file=sys.stderr)
        return 1
    for problem in problems:
        print(f"gpu_training: {problem}", file=sys.stderr)
    return int(bool(problems))


def _pieces(flags: argparse.Namespace) -> list[str]:
    return ["first", "second"] if flags.rehearse and flags.piece is None else [flags.piece]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpu_training", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--piece", choices=PIECES, help="a rehearsal without it does first and second")
    add("--plan", action="store_true", help="say what each minute buys; run nothing")
    add("--rehearse", action="store_true", help="all of it, small, on a CPU")
    add("--out", type=Path, metavar="FOLDER", help="JSON, weights and log go here")
    add("--work", type=Path, metavar="FOLDER", help="runs and data; default: a temporary folder")
    add("--data", type=Path, metavar="FOLDER", help="what `--piece data` made; default: in --work")
    add("--project", type=Path, default=ROOT / "reference_impl", metavar="FOLDER")
    add("--official", type=Path, metavar="CHECKOUT", help="of SamsungSAILMontreal's TRM code")
    add("--minutes", type=float, default=9.5, help="of a piece, at most; default: %(default)s")
    add("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME")
    add("--favour", choices=MODELS, help="what the second piece trains")
    add("--foreign", type=Path, metavar="FILE", help="puzzles to score the favoured model on too")
    add("--anneal", action="store_true", help="let the learning rate end with the second piece")
    add("--final", action="store_true", help="open the shipped test split at the end")
    add("--commit", metavar="SHA", help="of this checkout, where git is not there to ask")
    add("--flags", nargs="+", default=[], metavar="FLAG", help="section.field=VALUE, for `train`")
    return parser


def settings_of(argv: Sequence[str]) -> Settings:
    """What a command line asks for; leaves with 2 where it cannot be used."""
    parser = _parser()
    return _checked(parser, parser.parse_args(argv))


def _checked(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> Settings:
    """The flags, checked; leaves with 2 where they cannot be used."""
    if flags.piece is None and not (flags.plan or flags.rehearse):
        parser.error("name a --piece, --plan or --rehearse")
    if flags.out is None and (flags.rehearse or not flags.plan):
        parser.error("--out is missing: where do the results go?")
    if not (flags.project / "src").is_dir():
        parser.error(f"--project {flags.project}: there is no rendered project")
    if flags.official is not None and not (flags.official / "models").is_dir():
        parser.error(f"--official {flags.official}: there is no checkout with a folder models/")
    if flags.data is not None and not (flags.data / "made.json").is_file():
        parser.error(f"--data {flags.data}: `--piece data` has not made it")
    if not 0 < flags.minutes <= 10:
        parser.error(f"--minutes {flags.minutes:g}: more than 0 and at most 10")
    if flags.foreign is not None and not flags.foreign.is_file():
        parser.error(f"--foreign {flags.foreign}: there is no such file")
    for flag in flags.flags:
        if "=" not in flag:
            parser.error(f"--flags {flag}: write section.field=VALUE")
    work = flags.work or (flags.out / "work" if flags.rehearse else None)
    work = work or Path(tempfile.gettempdir()) / "gpu_training"
    # not `Path.exists`, which raises where it may not look: making the folder is what refuses that
    if flags.piece == "first" and not flags.plan and os.path.exists(work / "project" / "runs"):
        parser.error(f"--work {work}: it holds the runs of another first piece")
    return Settings(
        out=None if flags.out is None else flags.out.resolve(),
        work=work.resolve(),
        data=None if flags.data is None else flags.data.resolve(),
        origin=flags.project.resolve(),
        official=None if flags.official is None else flags.official.resolve(),
        minutes=flags.minutes,
        models=tuple(flags.models),
        favour=flags.favour,
        foreign=None if flags.foreign is None else flags.foreign.resolve(),
        anneal=flags.anneal and flags.piece == "second",
        final=flags.final,
        commit=flags.commit,
        more=tuple(f"--{flag}" for flag in flags.flags),
        rehearse=flags.rehearse,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
