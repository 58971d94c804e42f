"""`nox` runs the lint, types and tests sessions; `nox -l` lists the others."""

import os

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


def _install(session: nox.Session, *groups: str, project: bool = True) -> None:
    wanted = nox.project.dependency_groups(PYPROJECT, *groups)
    session.install("-c", "constraints.txt", *wanted, *(("-e", ".[all]") if project else ()))


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
    """The tests, with at least 90 % branch coverage."""
    _install(session, "test")
    session.run("pytest", "--cov", *session.posargs, env=ONE_THREAD)


@nox.session
def crash(session: nox.Session) -> None:
    """Kill runs at every dangerous place, many times, and compare what comes of them."""
    _install(session, "test")
    session.run("pytest", "-m", "crash", "tests/crash", *session.posargs, env=ONE_THREAD)


@nox.session
def mutants(session: nox.Session) -> None:
    """Break the code in the listed ways; each time the named test must notice."""
    _install(session, "test")
    session.run("python", "-m", "tests.mutants", *session.posargs, env=ONE_THREAD)
