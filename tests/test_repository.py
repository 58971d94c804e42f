"""What the repository says of itself."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/results.md")


def readme_commands() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [block.strip() for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)]


def test_the_readme_starts_with_two_commands_of_one_line_each() -> None:
    demo, tests = readme_commands()[:2]
    assert demo.endswith("nox -s demo")
    assert tests.endswith("nox -s tests")
    assert "\n" not in demo + tests
    assert demo.removesuffix("demo") == tests.removesuffix("tests")  # one environment


def test_ci_runs_the_readmes_test_command_and_nothing_cleverer() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands == ["set -eu", 'cd "$(dirname "$0")/.."', readme_commands()[1]]


@pytest.mark.parametrize("page", PAGES)
def test_every_picture_and_file_that_a_page_links_is_there(page: str) -> None:
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in t]
    assert targets
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_page_on_architecture_names_every_room() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    package = ROOT / "reference_impl/src/reference_reasoner"
    for folder in ("engine", "reasoner/models"):
        rooms = [
            path.name for path in (package / folder).iterdir() if (path / "__init__.py").is_file()
        ]
        assert len(rooms) > 3
        assert [room for room in rooms if f"{room}/" not in text] == []


def test_the_readme_counts_the_breakages() -> None:
    found = {
        path.stem: path.read_text(encoding="utf-8").count("    Breakage(\n")
        for path in (ROOT / "tests/mutants").glob("breakages*.py")
    }
    reasoner = sum(found.pop(f"breakages_of_the_{part}") for part in ("memory", "reasoner"))
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    said = f"breaks the code in {sum(found.values())} ways, the reference model in {reasoner} more"
    assert said in text
