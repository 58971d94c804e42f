"""A module that compiles when it is imported, imported with another torch.compile."""

import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch


def loaded_anew(name: str, compile_by: Callable[..., Any], patch: pytest.MonkeyPatch) -> Any:
    """The module `name` of the models, for the rest of a test."""
    spec = importlib.util.find_spec(f"reference_reasoner.reasoner.models.{name}")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with patch.context() as while_loading:
        while_loading.setattr(torch, "compile", compile_by)
        spec.loader.exec_module(module)
    patch.setitem(sys.modules, spec.name, module)
    return module
