"""Another run's weights as a start; nothing else of it comes along."""

from pathlib import Path

from torch import nn

from ..errors import RefusedInputError, RunFailedError
from .checkpoint import load_weights


def take_weights(run_dir: Path, model: nn.Module) -> list[str]:
    """Copy the best weights of the run at `run_dir` into `model` where name and shape fit.

    Returns a line for each tensor that did not fit. Raises RefusedInputError where the run
    has no good weights, or not one of its tensors fits.
    """
    try:
        tensors, step = load_weights(run_dir, "best")
    except RunFailedError as error:
        raise RefusedInputError(f"--init-from {run_dir}: {error}") from error
    own = model.state_dict()
    fitting = {k: v for k, v in tensors.items() if k in own and own[k].shape == v.shape}
    if not fitting:
        raise RefusedInputError(
            f"--init-from {run_dir}: not one of its {len(tensors)} tensors fits this model by "
            "name and shape: choose a run of the same model"
        )
    model.load_state_dict(fitting, strict=False)
    lines = [f"init-from: took {len(fitting)} of {len(own)} tensors from step {step} of {run_dir}"]
    for name in sorted(own.keys() | tensors.keys()):
        if name not in tensors:
            lines.append(f"init-from: {name} is not in that run and keeps its fresh values")
        elif name not in own:
            lines.append(f"init-from: {name} is not in this model and was left out")
        elif name not in fitting:
            there, here = tuple(tensors[name].shape), tuple(own[name].shape)
            lines.append(f"init-from: {name} is {there} there and {here} here: kept fresh")
    return lines
