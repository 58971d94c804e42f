"""Whether the machine has what builds the memory's C."""

import shutil

import pytest

needs_c = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler on this machine"
)
