"""docs/results.md is what its script makes of the JSON."""

import runpy

from .rendering import ROOT


def test_the_page_of_results_is_written_by_its_script() -> None:
    page = runpy.run_path(str(ROOT / "results" / "tables.py"))["page"]()
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == page
