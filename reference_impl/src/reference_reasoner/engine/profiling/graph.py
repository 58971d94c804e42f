"""How often torch.compile has to leave the graph of a model's forward pass."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch._dynamo
from torch._dynamo.utils import counters
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import RefusedInputError
from ..training.task import Task
from .inputs import example_arguments, moved


def graph_breaks(task: Task[Any]) -> int:
    """Breaks of a training forward pass; one that is left to Python as a whole counts as one.

    A fresh model is looked at and torch.compile's caches are emptied. Raises RefusedInputError
    for a model that torch.compile cannot follow at all.
    """
    with torch.random.fork_rng(devices=[]), _quiet():
        try:
            with torch.device("meta"):
                return _graph_breaks(task, torch.device("meta"))
        except Exception:  # whatever a model does that needs the numbers themselves
            pass
        try:
            return _graph_breaks(task, torch.device("cpu"))
        except RefusedInputError:
            raise
        except Exception as error:
            raise RefusedInputError(
                f"torch.compile cannot follow the model of the task {task.name}: {in_short(error)}"
            ) from error


def in_short(error: Exception) -> str:
    """The error's type and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:120]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is said of what dynamo finds: here it is counted, not mended."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _graph_breaks(task: Task[Any], device: torch.device) -> int:
    model = task.build_model().to(device).train()
    hold_batch_norms(model)  # which changes no graph, and lets them take one example
    arguments = moved(example_arguments(task), device)
    torch._dynamo.reset()
    counters.clear()
    try:
        explained = torch._dynamo.explain(model)(*arguments)
        if explained.graph_count:
            return int(explained.graph_break_count)
        frames = counters["frames"]  # no graph: nothing to compute, or given up, as an LSTM is
        return int(frames["total"] > frames["ok"])
    finally:
        torch._dynamo.reset()


def hold_batch_norms(model: torch.nn.Module) -> bool:
    """Let batch norms use their running statistics; whether there are any."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.eval()
    return bool(norms)
