"""`new data`, `new model` and `new task`."""

from pathlib import Path

from ..project import project_root
from .project_entry import enter, entries, lines_to_add
from .writing import (
    PACKAGE,
    check_name,
    class_name,
    filled,
    require_module,
    source_folder,
    write_all,
)

_FOLDERS = {"data": "data", "model": "models", "task": "tasks"}


def new_data(name: str) -> list[str]:
    """Write a data set; what to say of it."""
    written = _write("data", name)
    return [
        *written,
        "",
        f"Next: put your own numbers into `_load` of src/{PACKAGE}/data/{name}.py, and how many",
        f"features they have into FEATURES; then `pytest tests/data/test_{name}.py`.",
    ]


def new_model(name: str) -> list[str]:
    """Write a model; what to say of it."""
    written = _write("model", name)
    return [
        *written,
        "",
        f"Next: change src/{PACKAGE}/models/{name}.py as you like; then",
        f"`pytest tests/models/test_{name}.py`, and `new task` for a task that uses it.",
    ]


def new_task(name: str, data: str, model: str) -> list[str]:
    """Write a task for a data set and a model of `new`, and enter it into project.py."""
    require_module("data", data)
    require_module("models", model)
    imports = _imports(data, model)
    written = _write(
        "task",
        name,
        data=data,
        Data=class_name(data),
        Model=class_name(model),
        imports=imports,
    )
    wanted = entries(name, class_name(name))
    path = source_folder() / "project.py"
    if enter(path, wanted):
        written.append(str(path.relative_to(project_root())) + " (the task and its presets)")
    else:
        where = path.relative_to(project_root())
        written += ["", f"Add to {where}, whose dicts could not be edited:", *lines_to_add(wanted)]
    return [
        *written,
        "",
        f"Next: `{PACKAGE} train --preset {name}_smoke`, and `{PACKAGE} doctor --model RUN` on it.",
    ]


def _imports(data: str, model: str) -> str:
    """The task's imports, sorted as the linter wants them."""
    lines = {
        "..config": "CheckpointConfig, EvaluationConfig, RunConfig, TrainingConfig",
        "..data.dataset": "Batch, Splits",
        f"..data.{data}": f"FEATURES, {class_name(data)}DataConfig, load_{data}_splits",
        "..evaluation.figures": "ACCENT, new_figure, save_figure",
        f"..models.{model}": f"{class_name(model)}Model, {class_name(model)}ModelConfig",
        "..training.task": "Carry, LossOutput, ReportSection, Row, StepKeys, Task",
    }
    return "\n".join(_import(module, names) for module, names in sorted(lines.items()))


def _import(module: str, names: str) -> str:
    line = f"from {module} import {names}"
    if len(line) <= 100:
        return line
    return "\n".join([f"from {module} import (", *(f"    {n}," for n in names.split(", ")), ")"])


def _write(kind: str, name: str, **values: str) -> list[str]:
    check_name(name)
    source, folder = source_folder(), _FOLDERS[kind]
    tests = project_root() / "tests" / folder
    title = name.replace("_", " ").capitalize()
    values |= {"name": name, "Class": class_name(name), "title": title, "package": PACKAGE}
    texts: dict[Path, str] = {
        source / folder / f"{name}.py": filled(kind, **values),
        tests / f"test_{name}.py": filled(f"test_{kind}", **values),
    }
    return [str(path.relative_to(project_root())) for path in write_all(texts)]
