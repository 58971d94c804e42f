"""The list of breakages is usable; `nox -s mutants` runs it."""

from .__main__ import PACKAGE, ROOT, main
from .breakage import all_breakages


def test_each_breakage_stands_once_in_the_code_and_names_a_test() -> None:
    breakages = all_breakages()
    assert len(breakages) >= 50
    for breakage in breakages:
        assert (ROOT / PACKAGE / breakage.file).read_text().count(breakage.old) == 1, breakage.what
        file, _, test = breakage.test.partition("::")
        assert f"def {test.partition('[')[0]}" in (ROOT / "tests" / file).read_text()


def test_a_word_that_matches_nothing_is_refused() -> None:
    assert main(["no such breakage"]) == 2
