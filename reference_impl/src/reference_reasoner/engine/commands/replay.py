"""`replay`: one step of a run once more."""

import sys
from collections.abc import Sequence

from ..project import Project
from .parser import Parser


def main(argv: Sequence[str], project: Project) -> int:
    """Run the command `replay`: 0 as recorded, 1 not, 3 under other conditions."""
    parser = Parser(
        "replay",
        description="Rebuild the exact batch and carry of one step, run it, and save them with "
        "the gradients' norms by layer below RUN/replays/.",
    )
    parser.add_argument("run", metavar="RUN", help="a run directory, or its name below runs/")
    parser.add_argument("step", type=int, metavar="STEP", help="the step, counted from 1")
    flags = parser.parse_strictly(argv)

    from ..training.trained_run import open_run
    from ..verification.replay import replay, replay_table

    run = open_run(project, flags.run)
    told = replay(run.manifest, run.task, flags.step)
    print(replay_table(told))
    if told.equal:
        return 0
    if told.conditions:
        print(f"not comparable bit for bit: {'; '.join(told.conditions)}", file=sys.stderr)
        return 3
    print("the step is not the one that the run recorded: see the lines above", file=sys.stderr)
    return 1
