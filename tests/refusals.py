"""How a script refuses what it is told: one sentence, exit code 2."""

from collections.abc import Callable, Sequence

import pytest


def refusal(
    main: Callable[[list[str]], int], words: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> str:
    """The last line that it leaves with."""
    with pytest.raises(SystemExit) as left:
        main(list(words))
    assert left.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]
