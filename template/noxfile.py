"""`nox` runs the lint, types and tests sessions; `nox -l` lists the others."""

import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types", "tests"]

# uv does not read pip's variable: without this it would miss wheels that lie on this machine
if "PIP_FIND_LINKS" in os.environ:
    os.environ.setdefault("UV_FIND_LINKS", os.environ["PIP_FIND_LINKS"])

PYPROJECT = nox.project.load_toml("pyproject.toml")
# torch's threads spin while they wait: two of them beside a busy neighbour are 50 times slower
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
# the name of the package is that of its command
PACKAGE = next(iter(PYPROJECT["project"]["scripts"]))


def _install(session: nox.Session, *groups: str, project: bool = True) -> None:
    wanted = nox.project.dependency_groups(PYPROJECT, *groups)
    session.install("-c", "constraints.txt", *wanted, *(("-e", ".[all]") if project else ()))


def _needs_a_task(session: nox.Session) -> None:
    """Skip, and say so, where project.py names none."""
    if "TASKS: dict[str, str] = {}" in (Path("src") / PACKAGE / "project.py").read_text("utf-8"):
        session.skip(f"this project has no task yet: `{PACKAGE} new task NAME` writes one")


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting and likely mistakes."""
    _install(session, "lint", project=False)
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict on the package."""
    _install(session, "types")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """The tests, one process a core, with at least 90 % branch coverage."""
    _install(session, "test")
    workers = ("-n", "auto", "--dist", "worksteal")
    session.run("pytest", *workers, "--cov", *session.posargs, env=ONE_THREAD)


@nox.session
def crash(session: nox.Session) -> None:
    """Kill runs at every dangerous place, many times, and compare what comes of them."""
    _install(session, "test")
    session.run("pytest", "-m", "crash", "tests/engine/crash", *session.posargs, env=ONE_THREAD)


@nox.session
def profile(session: nox.Session) -> None:
    """Count parameters, FLOPs and bytes, and hold them against budgets.toml."""
    _needs_a_task(session)
    _install(session)
    session.run(PACKAGE, "profile", "--check", *session.posargs, env=ONE_THREAD)


@nox.session
def reproduce(session: nox.Session) -> None:
    """Train the smoke preset, train it again, and compare; `-- RUN` takes a run of yours."""
    _needs_a_task(session)
    _install(session)
    if session.posargs:
        session.run(PACKAGE, "reproduce", *session.posargs, env=ONE_THREAD)
        return
    folder = Path(session.create_tmp()) / "reproduce"
    shutil.rmtree(folder, ignore_errors=True)
    run = str(folder / "run")
    session.run(PACKAGE, "train", "--preset", "smoke", "--run-dir", run, env=ONE_THREAD)
    session.run(PACKAGE, "reproduce", run, env=ONE_THREAD)


@nox.session
def gpu_bench(session: nox.Session) -> None:
    """As profile, and latency and memory on a GPU; `-- --require-gpu` fails where there is none."""
    _needs_a_task(session)
    _install(session)
    session.run(PACKAGE, "gpu_bench", *session.posargs)
