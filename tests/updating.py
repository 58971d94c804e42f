"""Both sides of an update, as the tests of it script them: the template's and the user's."""

from pathlib import Path

from .environments import run
from .rendering import COPIER, commit, render

OLD_BINARY = b"\x00old\xff" * 9
NEW_BINARY = b"\x00new\xff" * 9
USERS_BINARY = b"\x00user\xff" * 9
TEMPLATES_SOURCE = "src/{{ package_name }}"
EDITED = {
    "classifier": ("digits/task.py", "digits/model.py"),
    "recursive_reasoner": (
        "reasoner/tasks/sudoku.py",
        "reasoner/tasks/deep_supervision.py",
        "reasoner/models/titans_mag.py",
    ),
}
"""{example: those of its files that both sides edit}"""
EDITED_ALWAYS = ("project.py", "engine/training/loop.py", "engine/seeding.py")


def insert_first(path: Path, line: str) -> None:
    """Put a line at the top."""
    path.write_text(f"{line}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")


def append(path: Path, line: str) -> None:
    """Put a line at the end."""
    path.write_text(f"{path.read_text(encoding='utf-8')}{line}\n", encoding="utf-8")


def replace_first(path: Path, line: str) -> None:
    """Put a line in the place of the first."""
    _, rest = path.read_text(encoding="utf-8").split("\n", 1)
    path.write_text(f"{line}\n{rest}", encoding="utf-8")


def insert_before(path: Path, line: str, following: str) -> None:
    """Put a line before the first one that is `following`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    lines.insert(lines.index(following), line)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def plant(template: Path) -> None:
    """Give the old version what the real one has not: a binary, and a file that will vanish."""
    rendered = template / "template"
    (rendered / "assets").mkdir()
    (rendered / "assets/weights.safetensors").write_bytes(OLD_BINARY)
    (rendered / TEMPLATES_SOURCE / "vanishing.py").write_text("OLD = True\n", encoding="utf-8")


def edit_template(template: Path) -> None:
    """What the template does between two versions."""
    rendered = template / "template"
    source = rendered / TEMPLATES_SOURCE
    for name in (*(name for names in EDITED.values() for name in names), *EDITED_ALWAYS):
        insert_first(next(source.glob(f"{name}*")), "# the template's edit")
    replace_first(source / "engine/config/run_config.py", '"""What the template says."""')
    for name in ("CHANGELOG.md", "REPRODUCIBILITY.md"):
        append(next(rendered.glob(f"{name}*")), "# the template's edit")
    insert_before(rendered / "pyproject.toml.jinja", '  "polars>=1",', '  "safetensors>=0.5",')
    (source / "brought.py").write_text("BY = 'the template'\n", encoding="utf-8")
    (rendered / "assets/weights.safetensors").write_bytes(NEW_BINARY)
    (source / "vanishing.py").unlink()
    next(rendered.glob("AGENTS.md*")).unlink()
    insert_before(template / "copier.yml", "  - AGENTS.md", "  - __pycache__")


def edit_users_project(project: Path, example: str) -> None:
    """What a user does to a project meanwhile."""
    source = project / "src/my_experiment"
    for name in (*EDITED[example], *EDITED_ALWAYS, "vanishing.py"):
        append(source / name, "# the user's edit")
    for name in ("AGENTS.md", "CHANGELOG.md"):
        append(project / name, "# the user's edit")
    for name in ("LICENSE", "REPRODUCIBILITY.md"):
        (project / name).unlink()
    (source / "mine").mkdir()
    (source / "mine/model.py").write_text("MINE = True\n", encoding="utf-8")
    pyproject = project / "pyproject.toml"
    insert_before(pyproject, '  "einops>=0.8",', '  "matplotlib>=3.9",')
    insert_before(pyproject, '  "zstandard>=0.23",', "]")
    (project / "assets/weights.safetensors").write_bytes(USERS_BINARY)


def started_project(
    template: Path, project: Path, version: str, example: str = "classifier"
) -> Path:
    """A project as its user has it on the first day."""
    render(template, project, {"year": "1999", "example": example}, ref=version)
    run(["git", "init", "--quiet"], project)
    commit(project)
    return project


def update(project: Path, *options: str) -> str:
    """What a user types; leaves with 0 also where there are conflicts."""
    return run([*COPIER, "update", "--defaults", *options], project)


def conflicts(project: Path) -> set[str]:
    """The files that git lists as unmerged."""
    listed = run(["git", "ls-files", "--unmerged"], project).splitlines()
    return {line.split("\t")[1] for line in listed}


def status(project: Path) -> str:
    """What differs from the last commit; nothing if nothing does."""
    return run(["git", "status", "--porcelain"], project)
