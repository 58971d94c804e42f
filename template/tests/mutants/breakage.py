"""What one breakage is."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Breakage:
    """Replace `old`, which stands once in `file`, by `new`; then `test` must fail."""

    what: str
    file: str
    old: str
    new: str
    test: str
