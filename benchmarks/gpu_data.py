"""The 9 x 9 puzzles that every model is trained on, and the shipped ones that they are scored on.

A folder as `data.folder` wants it: the training file is the shipped one (all strata alike) and,
after it, what the project's own `generate` makes: minimal puzzles as they come (about 40 % need no
guess), as many that need five guesses or more, and some with clues to spare, because a model that
has seen hard puzzles only fails on easy ones. No generated puzzle is equivalent under symmetry to
a shipped one. Puzzles are keyed, so every machine makes the same file.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .gpu_project import PACKAGE, PieceError, Project

SIDE = "9x9"
SEED = 7
PARTS = {"minimal": 12_000, "guesses:5+": 10_000, "blanks:45": 3_000}
"""{stratum: puzzles}; more would only make every command slower to start (70 us a puzzle)."""
SPLITS = ("train", "validation", "test")
FACTS = "made.json"


def make(
    project: Project, folder: Path, parts: Mapping[str, int] = PARTS, processes: int | None = None
) -> dict[str, Any]:
    """Make the folder, unless it is whole already, and return what it holds and cost."""
    facts = folder / FACTS
    if facts.exists():
        return {**check(folder), "made_here": False}
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    shipped = project.folder / "src" / PACKAGE / "reasoner" / "data" / "puzzles"
    known = [shipped / f"{SIDE}-{split}.txt" for split in SPLITS]
    lines = known[0].read_text(encoding="ascii").splitlines()
    counts = {"shipped": len(lines)}
    for stratum, count in parts.items():
        path = folder / f"part-{stratum.replace(':', '-').replace('+', '-up')}.txt"
        words = ["--stratum", stratum, "--count", str(count), "--seed", str(SEED)]
        words += ["--out", str(path), "--exclude", *map(str, known)]
        words += ["--processes", str(processes)] if processes else []
        project.run(PACKAGE, "generate", *words)
        known.append(path)
        lines += path.read_text(encoding="ascii").splitlines()
        counts[stratum] = count
    (folder / f"{SIDE}-train.txt").write_text("\n".join(lines) + "\n", encoding="ascii")
    for path in known[1 : len(SPLITS)]:
        shutil.copy2(path, folder)
    for path in known[len(SPLITS) :]:
        path.unlink()
    sums = {f"{SIDE}-{split}.txt": sha256(folder / f"{SIDE}-{split}.txt") for split in SPLITS}
    (folder / "manifest.json").write_text(json.dumps({"sha256": sums}, indent=2) + "\n")
    made = {"seconds": time.monotonic() - began, "seed": SEED, "training_puzzles": counts}
    facts.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    return {**check(folder), "made_here": True}


def check(folder: Path) -> dict[str, Any]:
    """What a folder made before holds. Raises PieceError where it is not whole."""
    try:
        made = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        sums = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["sha256"]
        for name in (f"{SIDE}-{split}.txt" for split in SPLITS):
            if sha256(folder / name) != sums[name]:
                raise PieceError(f"{folder / name} is not the file that its manifest names")
    except (OSError, ValueError, KeyError) as error:
        raise PieceError(f"{folder} is no folder that `--piece data` made: {error!r}") from error
    sizes = sum(path.stat().st_size for path in folder.iterdir())
    return {**made, "bytes": sizes, "train_sha256": sums[f"{SIDE}-train.txt"]}


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
