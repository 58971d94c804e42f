"""`solve` on files that are large, foreign or broken."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from .claims import Line
from .reference_project import PACKAGE, Reference


def solve(reference: Reference, more: Path | None) -> Iterator[Line]:
    """`solve` on files that are large, foreign or broken, with the weights that ship."""
    folder = reference.project / "files"
    folder.mkdir()
    files = {"100,000 lines": folder / "many.txt", "random bytes": folder / "noise"}
    reference.run(
        PACKAGE, "generate", "--side", "4", "--count", "100", "--out", str(folder / "four.txt")
    )
    lines = (folder / "four.txt").read_text(encoding="ascii").splitlines()
    files["100,000 lines"].write_text("\n".join(lines * 1000), encoding="ascii")
    files["random bytes"].write_bytes(random.Random(0).randbytes(10_000_000))
    (folder / "empty").touch()
    files |= {"an empty file": folder / "empty", "a directory": folder}
    broken = [*lines[:3], "12x4", "." * 37, "9" * 81, "", "# comment", "\u2603" * 16, lines[3][:9]]
    (folder / "broken.txt").write_text("\n".join(broken), encoding="utf-8")
    files["broken lines"] = folder / "broken.txt"
    if more is not None:
        files[more.name] = more.resolve()
    for name, path in files.items():
        yield handed_in(reference, name, path)


def handed_in(reference: Reference, name: str, path: Path) -> Line:
    """What `solve` makes of one file: its last line, and its memory."""
    script = (
        "import resource, runpy, sys; sys.argv[0] = 'solve'\n"
        "try: runpy.run_module(sys.argv.pop(1), run_name='__main__')\n"
        "finally: print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "
        "file=sys.stderr)"
    )
    (reference.project / "measured.py").write_text(script, encoding="utf-8")
    words = ("measured", PACKAGE, "solve", str(path), "--json", "solved.json")
    done = reference.run(*words, codes=(0, 2))
    *said, peak = done.err.strip().splitlines()
    last = (done.out.strip().splitlines() or said)[-1].replace(str(path), path.name)
    wrong = wrongly_solved(reference.project / "solved.json") if done.out else 0
    (reference.project / "solved.json").unlink(missing_ok=True)
    return Line(
        claim=f"`solve` on {name}",
        required="totals or a sentence, nothing wrong, no traceback",
        measured=f"exit {done.code}, {done.seconds:.0f} s, {peak.split()[1]} MiB: {last[:160]}",
        holds=not wrong and "Traceback" not in done.err,
    )


def wrongly_solved(path: Path) -> int:
    """Results that are presented as solved and break a rule, by an own look at each."""
    wrong = 0
    for each in json.loads(path.read_text(encoding="utf-8")):
        if each["solution"] is not None:
            wrong += not keeps_the_rules(each["puzzle"], each["solution"])
    return wrong


def keeps_the_rules(puzzle: str, solution: str) -> bool:
    """Rows, columns and boxes hold each digit once, and given digits stay."""
    side = round(len(puzzle) ** 0.5)
    height, width = {4: (2, 2), 6: (2, 3), 9: (3, 3)}[side]
    units: dict[tuple[str, int], set[str]] = {}
    for cell, digit in enumerate(solution):
        row, column = divmod(cell, side)
        box = row // height * side + column // width
        for unit in (("row", row), ("column", column), ("box", box)):
            units.setdefault(unit, set()).add(digit)
    digits = set("123456789"[:side])
    kept = all(given in (".", digit) for given, digit in zip(puzzle, solution, strict=True))
    return kept and all(found == digits for found in units.values())
