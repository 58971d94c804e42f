"""`ship`: put a run's weights into the package, for `solve` to work without a run."""

import re
from collections.abc import Sequence

from ...engine.commands.parser import Parser
from ...engine.project import Project


def main(argv: Sequence[str], project: Project) -> int:
    """Run the command `ship`: put a run's best weights into the package and print where."""
    parser = Parser(
        "ship",
        description="Put the best weights of a run on puzzles into the package, with their sizes, "
        "threshold, scores and hashes in weights/manifest.json. `solve` takes them where there is "
        "no run.",
    )
    parser.add_argument("run", metavar="RUN", help="a run directory, or its name below runs/")
    parser.add_argument("--name", metavar="NAME", help="default: the run's preset")
    flags = parser.parse_strictly(argv)
    if flags.name is not None and not re.fullmatch(r"[a-z0-9_-]+", flags.name):
        parser.error(f"--name {flags.name}: use small letters, digits, dashes and underscores")

    from .ship_weights import ship_run

    shipped = ship_run(project, flags.run, flags.name)
    print(f"{shipped.path}: {', '.join(f'{size} x {size}' for size in shipped.sizes)}")
    return 0
