"""A PyTorch project: `load_model(run)` for notebooks, and the command line for the rest."""

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from .engine.config.run_config import RunConfig

__all__ = ["load_model"]


def load_model(run: str | Path, checkpoint: str = "best") -> "tuple[nn.Module, RunConfig]":
    """The trained model of a run in eval mode, on the run's device, and the run's config.

    `run` is a path or a name below `runs/`; `checkpoint` is `best` or `last`. Raises
    RefusedInputError for a run that is not there, and RunFailedError for damaged weights.
    """
    from . import project  # torch takes seconds, and the command line imports this file
    from .engine.project import Project
    from .engine.training import trained_run

    return trained_run.load_model(Project.of(project), run, checkpoint)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version(__name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
