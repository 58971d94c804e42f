"""`new tests`: tests of an existing module, from what the task's model puts into it."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import RefusedInputError
from ..profiling.model_inputs import tensors_in
from ..project import project_root
from ..training.task import Task
from .task_folder import PACKAGE, filled, source_folder, write_all


@dataclass(frozen=True, kw_only=True)
class Call:
    """The first call of the first instance of a class."""

    class_name: str
    path: str
    """Of the instance in the model."""
    arguments: tuple[Any, ...]
    shapes: list[tuple[int, ...]]
    learns: bool
    """Whether it has parameters that its output depends on."""


def module_path(module: str) -> Path:
    """The file of a module, named `mine.model`, `mine/model.py` or `src/<package>/mine/model.py`.

    Raises RefusedInputError where there is none.
    """
    source = source_folder()
    given = Path(module)
    parts = module.removeprefix(f"{PACKAGE}.").split(".")
    for path in (
        project_root() / given,
        source / given,
        source.joinpath(*parts).with_suffix(".py"),
    ):
        if path.is_file() and path.suffix == ".py" and source in path.parents:
            return path
    raise RefusedInputError(
        f"there is no module {module}: name it as FOLDER.NAME, below src/{PACKAGE}"
    )


def new_tests(module: str, tasks: dict[str, tuple[str, Task[Any]]]) -> list[str]:
    """Write the tests of `module`; what to say of them.

    `tasks` is {task name: (preset, task)}; the first one whose model uses the module is taken.
    Raises RefusedInputError where none does.
    """
    path = module_path(module)
    dotted = ".".join([PACKAGE, *path.relative_to(source_folder()).with_suffix("").parts])
    found = {name: captured_calls(task, dotted) for name, (_, task) in tasks.items()}
    used_by = [name for name, calls in found.items() if calls]
    if not used_by:
        raise RefusedInputError(
            f"{module} does not run when the model of {', '.join(tasks)} is given its "
            "example_input(), so there are no inputs to test it with: use it in a task's model"
        )
    relative = path.relative_to(source_folder())
    text = filled(
        "test_module",
        title=relative.stem.replace("_", " ").capitalize(),
        package=PACKAGE,
        task=used_by[0],
        preset=tasks[used_by[0]][0],
        cases=cases(found[used_by[0]]),
    )
    target = project_root() / "tests" / relative.parent / f"test_{relative.name}"
    written = write_all({target: text})
    return [
        *(str(each.relative_to(project_root())) for each in written),
        "",
        f"Next: `pytest {target.relative_to(project_root())}`; add what only you know of it.",
    ]


def captured_calls(task: Task[Any], module: str) -> list[Call]:
    """The first call of each class of `module` while the task's model runs its example_input()."""
    with torch.random.fork_rng(devices=[]):
        model = task.build_model().eval()
        with _captured(model, module) as calls:
            try:
                model(*task.example_input())
            except NotImplementedError as error:
                raise RefusedInputError(
                    f"the task {task.name} has no example_input(): write it first"
                ) from error
    return list(calls.values())


@contextmanager
def _captured(model: nn.Module, module: str) -> Iterator[dict[str, Call]]:
    calls: dict[str, Call] = {}
    handles = []

    def hook(path: str, kind: str) -> Any:
        def note(part: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            tensors = tensors_in(output)
            given = inspect.signature(part.forward).bind(*args, **kwargs)
            calls.setdefault(
                kind,
                Call(
                    class_name=kind,
                    path=path,
                    arguments=given.args,
                    shapes=[tuple(tensor.shape) for tensor in tensors],
                    learns=any(tensor.requires_grad for tensor in tensors)
                    and any(p.requires_grad for p in part.parameters()),
                ),
            )

        return note

    for path, part in model.named_modules():
        if type(part).__module__ == module and not _has_keyword_only(part):
            noting = hook(path, type(part).__name__)
            handles.append(part.register_forward_hook(noting, with_kwargs=True))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _has_keyword_only(part: nn.Module) -> bool:
    """Whether its forward cannot be called with positions alone."""
    parameters = inspect.signature(part.forward).parameters.values()
    return any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters)


def cases(calls: list[Call]) -> str:
    """A function a class that makes its inputs, and the tables of all and of the learning ones."""
    functions = [_input_function(call) for call in calls]
    tables = [
        "\n".join([f"{name} = [", *(_case(call) for call in chosen), "]"])
        for name, chosen in {
            "CASES": calls,
            "LEARNING": [call for call in calls if call.learns],
        }.items()
    ]
    return "\n\n\n".join([*functions, "\n".join(tables)])


def _input_function(call: Call) -> str:
    arguments = [expression(argument) for argument in call.arguments]
    head = f"def input_of_{_snake(call.class_name)}() -> tuple[Any, ...]:"
    if len(arguments) < 2:  # the formatter keeps longer tuples as they are written
        return f"{head}\n    return ({''.join(f'{argument},' for argument in arguments)})"
    lines = (f"        {argument}," for argument in arguments)
    return "\n".join([head, "    return (", *lines, "    )"])


def _case(call: Call) -> str:
    function = f"input_of_{_snake(call.class_name)}"
    return "\n".join(
        [
            "    (",
            f'        "{call.path}",',
            f"        {function},",
            f"        {call.shapes},",
            "    ),",
        ]
    )


def _snake(name: str) -> str:
    spaced = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
    return spaced.strip("_")


def expression(value: Any) -> str:
    """Python that makes a value like this one; tensors keep shape, type and range."""
    if isinstance(value, Tensor):
        return _tensor(value)
    if isinstance(value, tuple):
        return "(" + "".join(f"{expression(each)}, " for each in value).strip() + ")"
    if isinstance(value, list):
        return "[" + ", ".join(expression(each) for each in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{k}": {expression(v)}' for k, v in value.items()) + "}"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    raise RefusedInputError(
        f"an input of the module is a {type(value).__name__}, which no test can be written with: "
        "write this one by hand"
    )


def _tensor(tensor: Tensor) -> str:
    shape = ", ".join(map(str, tensor.shape))
    if tensor.is_floating_point():
        kind = "" if tensor.dtype == torch.float32 else f"dtype={tensor.dtype}"
        return f"floats({', '.join(filter(None, [shape, kind]))})"
    kind = "" if tensor.dtype == torch.int64 else f"dtype={tensor.dtype}"
    low, high = (int(tensor.min()), int(tensor.max())) if tensor.numel() else (0, 0)
    return f"integers({', '.join(filter(None, [str(low), str(high), shape, kind]))})"
