"""docs/results.md is what its script makes of the JSON."""

import re
from pathlib import Path

from results import figures, tables

from .rendering import ROOT


def test_the_page_of_results_is_written_by_its_script() -> None:
    assert tables.PAGE.read_text(encoding="utf-8") == tables.page()
    readme = tables.README.read_text(encoding="utf-8")
    assert readme == tables.readme()
    assert readme.count(tables.BEGIN) == readme.count(tables.END) == 1


def test_its_pictures_are_drawn_by_its_script(tmp_path: Path) -> None:
    drawn = {path.name for path in figures.draw(tmp_path)}
    shown = set(re.findall(r"!\[[^]]*\]\(([^)]+)\)", tables.page()))
    assert shown == drawn
    assert all((ROOT / "docs" / name).read_bytes()[:4] == b"\x89PNG" for name in drawn)
