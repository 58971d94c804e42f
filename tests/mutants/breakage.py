"""What one breakage is, and where all of them are."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Breakage:
    """Replace `old`, which stands once in `file`, by `new`; then `test` must fail."""

    what: str
    file: str
    old: str
    new: str
    test: str


def all_breakages() -> tuple[Breakage, ...]:
    """Those of every `breakages*.py` beside this file; each gives a tuple BREAKAGES."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("breakages*.py"))
    modules = [import_module(f".{name}", __package__) for name in names]
    return tuple(breakage for module in modules for breakage in module.BREAKAGES)
