"""A PyTorch project: `load_model(run)` for notebooks, and the command line for the rest."""

import importlib.metadata
from typing import Any

__all__ = ["load_model"]


def __getattr__(name: str) -> Any:
    if name == "load_model":  # imported when asked for: torch takes seconds
        from .loading import load_model

        return load_model
    if name == "__version__":
        return importlib.metadata.version(__name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
