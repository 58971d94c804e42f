"""`reference_impl/`: the template rendered with the reference model and everything on.

`python -m tests.reference` renders it anew from `reference_answers.yml`. An answers file cannot
say which commit it is part of, so its `_commit` and `_src_path` are fixed.
"""

import re
import shutil
import sys
import tempfile
from pathlib import Path

import yaml

from .environments import run
from .rendering import ROOT, files_in, render

FOLDER = ROOT / "reference_impl"
ANSWERS = Path(__file__).parent / "reference_answers.yml"
ANSWERS_FILE = ".copier-answers.yml"
FIXED = {"_commit": "HEAD", "_src_path": "gh:org/ml-expert"}


def answers() -> dict[str, object]:
    """The committed answers."""
    return yaml.safe_load(ANSWERS.read_text(encoding="utf-8"))


def with_fixed_origin(text: str) -> str:
    """An answers file that names no commit and no path of a machine."""
    for name, value in FIXED.items():
        text, times = re.subn(rf"^{name}: .*$", f"{name}: {value}", text, flags=re.MULTILINE)
        assert times == 1, name
    return text


def render_reference(template: Path, dst: Path, *, ref: str | None = None) -> Path:
    """Render the reference into `dst`, from the newest tag or from `ref`."""
    render(template, dst, answers(), ref=ref)
    path = dst / ANSWERS_FILE
    path.write_text(with_fixed_origin(path.read_text(encoding="utf-8")), encoding="utf-8")
    return dst


def own_files(folder: Path) -> set[str]:
    """The files below `folder` that git does not ignore; runs and environments stay out of it."""
    if not folder.is_dir():
        return set()
    listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], folder)
    return {name for name in listed.split("\0") if (folder / name).is_file()}


def differences(one: Path, ones: set[str], other: Path, others: set[str]) -> list[str]:
    """Of two folders' files: those that only one has, or that differ in a byte."""
    changed = {n for n in ones & others if (one / n).read_bytes() != (other / n).read_bytes()}
    return sorted((ones ^ others) | changed)


def main() -> int:
    """Replace reference_impl/ by what the working tree renders, and say what that changed."""
    old = own_files(FOLDER)
    with tempfile.TemporaryDirectory() as folder:
        new = render_reference(ROOT, Path(folder) / "reference", ref="HEAD")
        changed = differences(new, files_in(new), FOLDER, old)
        for name in old:
            (FOLDER / name).unlink()
        shutil.copytree(new, FOLDER, dirs_exist_ok=True)
    print("\n".join(changed) if changed else "reference_impl/ is as it was")
    return 0


if __name__ == "__main__":
    sys.exit(main())
