"""The only file that knows ranks."""

import os
from dataclasses import dataclass

from ..errors import RefusedInputError


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Ranks of processes that train in parallel: this one's place among them."""

    rank: int = 0
    world_size: int = 1


def current() -> Ranks:
    """The place of this process. Raises RefusedInputError under a launcher of several."""
    world_size = os.environ.get("WORLD_SIZE", "1")
    if world_size != "1":
        raise RefusedInputError(
            f"training runs in one process, but WORLD_SIZE is {world_size}: start it without "
            "torchrun, or with --nproc-per-node 1"
        )
    return Ranks()
