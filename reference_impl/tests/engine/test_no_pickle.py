"""Nothing here can run code that somebody hid in a file of weights or data."""

import ast
from pathlib import Path

import pytest

from reference_reasoner.engine import errors

PACKAGE = Path(errors.__file__).parent
TESTS = Path(__file__).parent
FILES = sorted([*PACKAGE.rglob("*.py"), *TESTS.rglob("*.py")])
FORBIDDEN_MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve"}
FORBIDDEN_CALLS = {
    "torch.load",
    "torch.save",
    "torch.hub.load",
    "torch.jit.load",
    "pandas.read_pickle",
}
NAMES_OF_MODULES = {"np": "numpy", "pd": "pandas"}


def violations(source: str) -> list[str]:
    """What in `source` can load or write a pickle."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if _root(a.name) in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            taken = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [t for t in taken if _root(t) in FORBIDDEN_MODULES or t in FORBIDDEN_CALLS]
        elif isinstance(node, ast.Attribute):
            name = _dotted(node)
            found += [name] if name in FORBIDDEN_CALLS else []
        elif isinstance(node, ast.Call):
            found += _in_call(node)
    return found


def _in_call(call: ast.Call) -> list[str]:
    found = [
        "allow_pickle"
        for keyword in call.keywords
        if keyword.arg == "allow_pickle"
        and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
    ]
    name = _dotted(call.func)
    if name == "numpy.load" and len(call.args) > 2:
        found.append("allow_pickle")  # its third argument
    if name.rpartition(".")[2] in ("import_module", "__import__"):
        words = [a.value for a in call.args if isinstance(a, ast.Constant)]
        found += [w for w in words if isinstance(w, str) and _root(w) in FORBIDDEN_MODULES]
    return found


def _root(name: str) -> str:
    return name.partition(".")[0]


def _dotted(node: ast.expr) -> str:
    """`a.b.c` for the expression a.b.c, else nothing."""
    if isinstance(node, ast.Name):
        return NAMES_OF_MODULES.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ""


def test_there_is_something_to_look_at() -> None:
    names = {path.name for path in FILES}
    assert {"checkpoint.py", "trained_run.py", Path(__file__).name} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_pickle_is_used_nowhere(path: Path) -> None:
    assert violations(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, dill as d",
        "def f():\n    from joblib import load",
        "import cloudpickle.cloudpickle",
        "import shelve",
        "from pickle import loads",
        "import torch\ntorch.load('x', weights_only=True)",
        "read = torch.load",
        "from torch import load",
        "torch.save({}, 'x')",
        "np.load('x', allow_pickle=True)",
        "numpy.load('x', allow_pickle=flag)",
        "np.load('x', None, True)",
        "np.save('x', y, allow_pickle=True)",
        "importlib.import_module('pickle')",
        "__import__('dill')",
    ],
)
def test_each_way_to_a_pickle_is_noticed(source: str) -> None:
    assert len(violations(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "np.load('x')",
        "np.load('x', allow_pickle=False)",
        "from .pickle import x",
        "safetensors.torch.load(data)",
        "text = 'import pickle'",
        "json.load(file)",
    ],
)
def test_the_rest_is_fine(source: str) -> None:
    assert violations(source) == []
