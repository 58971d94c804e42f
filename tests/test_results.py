"""docs/results.md is what its script makes of the JSON."""

import json
import re
from pathlib import Path

from results import figures, gpu_row_tables, peer_tables, tables

from .rendering import ROOT


def test_the_page_of_results_is_written_by_its_script() -> None:
    assert tables.PAGE.read_text(encoding="utf-8") == tables.page()
    readme = tables.README.read_text(encoding="utf-8")
    assert readme == tables.readme()
    assert readme.count(tables.BEGIN) == readme.count(tables.END) == 1


def test_the_readme_says_in_words_which_goals_were_missed() -> None:
    found = {what: (ratio["median"], least) for what, ratio, least in peer_tables.ratios()}
    table = "\n".join(peer_tables.summary())
    for what, (ratio, least) in found.items():
        (line,) = [line for line in table.splitlines() if line.startswith(f"| {what} |")]
        words = "none was set" if least is None else f"at least {least:g}: "
        assert words in line
        assert ("**missed** by " in line) == (least is not None and ratio < least)
    on_a_gpu = gpu_row_tables.summary()
    stored = json.loads((ROOT / "results/gpu/decode.json").read_text(encoding="utf-8"))["lines"]
    for each in stored:
        lines = [line for line in on_a_gpu if line.startswith(f"| {each['claim']} |")]
        assert len(lines) == (each["holds"] is not None)
        assert all(("**missed**" in line) == (each["holds"] is False) for line in lines)
    assert any(line.startswith("| `grid25m` |") and "not measured" in line for line in on_a_gpu)


def test_its_pictures_are_drawn_by_its_script(tmp_path: Path) -> None:
    drawn = {path.name for path in figures.draw(tmp_path)}
    shown = set(re.findall(r"!\[[^]]*\]\(([^)]+)\)", tables.page()))
    assert shown == drawn
    assert all((ROOT / "docs" / name).read_bytes()[:4] == b"\x89PNG" for name in drawn)
