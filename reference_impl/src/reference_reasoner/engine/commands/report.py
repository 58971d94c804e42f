"""`report`: one HTML page about a run."""

from collections.abc import Sequence

from ..project import Project
from .parser import Parser


def main(argv: Sequence[str], project: Project) -> int:
    """Run the command `report`: write a run's report and print its path."""
    parser = Parser("report", description="Write one self-contained HTML page about a run.")
    parser.add_argument("run", metavar="RUN", help="a run directory, or its name below runs/")
    flags = parser.parse_strictly(argv)

    from ..evaluation.report import write_report
    from ..training.trained_run import open_run

    run = open_run(project, flags.run)
    print(write_report(run.task, run.run_dir, run.manifest))
    return 0
