"""`reproduce`: train a run again and compare."""

from collections.abc import Sequence

from ..project import Project
from .parser import Parser


def main(argv: Sequence[str], project: Project) -> int:
    """Run the command `reproduce`: train a run again, beside it, and print the verdict."""
    parser = Parser(
        "reproduce",
        description="Train a run again from its config.toml and run.json, beside it, and compare "
        "every recorded step and the hashes. Exit code 0: the same; 1: different; 3: not "
        "comparable bit for bit.",
    )
    parser.add_argument("run", metavar="RUN", help="a run directory, or its name below runs/")
    parser.add_argument("--until", type=int, metavar="STEP", help="stop after this step")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads to train with")
    flags = parser.parse_strictly(argv)

    from ..evaluation.predictions import make_evaluator
    from ..training.trained_run import open_run
    from ..verification.reproduce import reproduce

    run = open_run(project, flags.run)
    verdict = reproduce(
        run.manifest, run.task, make_evaluator, until=flags.until, threads=flags.threads
    )
    print("\n".join(verdict.lines))
    return verdict.exit_code
