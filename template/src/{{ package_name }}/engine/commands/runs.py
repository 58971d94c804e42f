"""`runs`: every run of the project."""

import json
from collections.abc import Sequence

from ..project import Project, runs_folder
from ..tracking.run_directory import list_runs
from ..tracking.runs_table import runs_table, summary
from .parser import Parser


def main(argv: Sequence[str], project: Project) -> int:
    """Print every run below runs/."""
    parser = Parser("runs", description="List every run below runs/.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    flags = parser.parse_strictly(argv)
    runs = list_runs(runs_folder())
    print(json.dumps([summary(run) for run in runs], indent=2) if flags.json else runs_table(runs))
    return 0
