"""The sessions; all use the environment that nox itself runs in (README.md makes it)."""

import sys

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "none"
# torch's threads spin while they wait: two of them beside a busy neighbour are 50 times slower
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def _python(session: nox.Session, *args: str) -> None:
    session.run(sys.executable, *args, env=ONE_THREAD)


@nox.session
def demo(session: nox.Session) -> None:
    """Render with default answers into demo/, train, evaluate, and say where the report is."""
    _python(session, "-m", "tests.demo", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting and likely mistakes, in the template too."""
    _python(session, "-m", "ruff", "format", "--check", ".")
    _python(session, "-m", "ruff", "check", ".")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests of the template, two at a time."""
    _python(session, "-m", "pytest", "-n", "2", "--dist", "worksteal", *session.posargs)
