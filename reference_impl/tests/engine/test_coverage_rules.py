"""What the checks themselves rest on: nobody may quietly make them weaker."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import reference_reasoner as package

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(str(package.__file__)).parent
HOOKS = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
EXCLUSION = re.compile(r"#\s*pragma:\s*no\s*" + "(cover|branch)", re.IGNORECASE)
MARKERS = ("<" * 7, "=" * 7, ">" * 7)


@pytest.fixture(scope="module")
def tools() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    return found


def test_branches_count_in_every_process(tools: dict[str, Any]) -> None:
    measured = tools["coverage"]["run"]
    assert measured["branch"] is True
    assert measured["parallel"] is True
    assert measured["sigterm"] is True
    assert "subprocess" in measured["patch"]
    assert measured["source"] == [package.__name__]


def test_only_code_that_needs_a_gpu_is_left_out(tools: dict[str, Any]) -> None:
    assert tools["coverage"]["run"]["omit"] == ["*_cuda.py"]
    left_out = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*_cuda.py")]
    assert sum(len(text.splitlines()) for text in left_out) <= 400


def test_ninety_percent_and_no_other_exclusion(tools: dict[str, Any]) -> None:
    report = tools["coverage"]["report"]
    assert report["fail_under"] >= 90
    assert set(report) & {"omit", "include", "exclude_also", "exclude_lines"} == set()
    assert set(report) & {"partial_branches", "partial_also"} == set()


def test_no_line_asks_not_to_be_measured() -> None:
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    assert len(files) > 20
    asking = [str(path) for path in files if EXCLUSION.search(path.read_text(encoding="utf-8"))]
    assert asking == []
    assert EXCLUSION.search("x = 1  # pragma: " + "no cover")
    assert EXCLUSION.search("if x:  #pragma:no " + "branch")


def test_warnings_are_errors_and_markers_are_strict(tools: dict[str, Any]) -> None:
    options = tools["pytest"]["ini_options"]
    assert options["filterwarnings"][0] == "error"
    assert "--strict-markers" in options["addopts"]


def test_types_are_strict(tools: dict[str, Any]) -> None:
    assert tools["mypy"]["strict"] is True
    assert tools["mypy"]["files"] == ["src"]


def test_the_hook_and_the_lint_session_run_one_ruff() -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    tested = re.search(r"^ruff==(\S+)$", constraints, re.MULTILINE)
    hook = re.search(r"ruff-pre-commit\n\s+rev: v(\S+)", HOOKS)
    assert tested is not None
    assert hook is not None
    assert hook[1] == tested[1]


def test_the_hook_notices_conflict_markers() -> None:
    entry = re.search(r"id: no-conflict-markers\n(?:.*\n)*?\s+entry: '(.*)'", HOOKS)
    assert entry is not None
    pattern = re.compile(entry[1])
    start, middle, end = MARKERS
    for line in (f"{start} before updating", middle, f"{end} after updating"):
        assert pattern.search(line), line
        assert not pattern.search(f"    {line}"), "only at the start of a line"
    for line in ("A title", f"{middle}====", "a << b", f'"{start}"', "x == y"):
        assert not pattern.search(line), line


def test_there_is_no_conflict_marker() -> None:
    lines = tuple(f"{marker} " for marker in (MARKERS[0], MARKERS[2]))
    files = [path for path in ROOT.iterdir() if path.suffix in (".md", ".toml", ".txt", ".yaml")]
    files += [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    marked = [
        str(path)
        for path in files
        if any(line.startswith(lines) for line in path.read_text("utf-8").splitlines())
    ]
    assert marked == []


def test_leftovers_of_a_rejected_patch_are_noticed() -> None:
    files = re.search(r"id: no-reject-files\n(?:.*\n)*?\s+files: '(.*)'", HOOKS)
    assert files is not None
    assert re.search(files[1], "src/config.py.rej")
    assert re.search(files[1], "src/config.py.orig")
    assert not re.search(files[1], "src/original.py")
