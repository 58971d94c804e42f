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
    _python(session, "-m", "tests.demo")


@nox.session
def render_reference(session: nox.Session) -> None:
    """Render reference_impl/ from tests/reference_answers.yml; commit it with the template."""
    _python(session, "-m", "tests.reference")


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting and likely mistakes, in the template too."""
    _python(session, "-m", "ruff", "format", "--check", ".")
    _python(session, "-m", "ruff", "check", ".")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests of the template, two at a time."""
    _python(session, "-m", "pytest", "-n", "2", "--dist", "worksteal", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Break the reference in the listed ways; each time the named test must notice."""
    _python(session, "-m", "tests.mutants", *session.posargs)


@nox.session
def profile(session: nox.Session) -> None:
    """Hold what is rendered by default against its budgets."""
    _python(session, "-m", "tests.demo", "profile", *session.posargs)


@nox.session
def reproduce(session: nox.Session) -> None:
    """Train the smoke preset of what is rendered by default twice, and compare bit for bit."""
    _python(session, "-m", "tests.demo", "reproduce", *session.posargs)


@nox.session
def gpu_bench(session: nox.Session) -> None:
    """Latency and memory of what is rendered by default; `-- --require-gpu` where one must be."""
    _python(session, "-m", "tests.demo", "gpu_bench", *session.posargs)


@nox.session
def evidence(session: nox.Session) -> None:
    """Every timed or counted line of the reference model, 50 minutes; `-- --only PART` is less."""
    _python(session, "-m", "benchmarks.evidence", *session.posargs)


@nox.session
def learning(session: nox.Session) -> None:
    """Train what docs/results.md shows, over seeds, three hours; `-- --only PART` is less."""
    _python(session, "-m", "benchmarks.learning", *session.posargs)


@nox.session
def peers(session: nox.Session) -> None:
    """Ours beside its peers, in turns; `-- --official PATH` brings the official TRM code in."""
    # each script says how many threads it takes
    session.run(sys.executable, "-m", "benchmarks.peers", *session.posargs)
