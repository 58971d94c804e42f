"""`nox -s mutants`: apply one breakage at a time to a copy of the reference, run its test.

A breakage counts as killed only by an assertion of that test; a test that cannot run, or
passes, does not kill. `nox -s mutants -- TEXT` runs those whose file or test holds TEXT.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .breakage import Breakage, all_breakages

ROOT = Path(__file__).resolve().parents[2] / "reference_impl"
PACKAGE = Path("src/reference_reasoner")
AT_ONCE = 2


def main(words: Sequence[str]) -> int:
    """Run the chosen breakages; 0 if every one was killed."""
    chosen = [b for b in all_breakages() if all(word in f"{b.file} {b.test}" for word in words)]
    if not chosen:
        print(f"no breakage matches {' '.join(words)}", file=sys.stderr)
        return 2
    if run_tests(ROOT / "src", sorted({b.test for b in chosen})) != "passed":
        print("the named tests must pass on the code as it is; they do not", file=sys.stderr)
        return 1
    with ThreadPoolExecutor(AT_ONCE) as pool:
        verdicts = list(pool.map(verdict, chosen))
    for breakage, found in zip(chosen, verdicts, strict=True):
        print(f"{found:<10} {breakage.file}: {breakage.what}  <- {breakage.test}")
    killed = verdicts.count("killed")
    print(f"{killed} of {len(chosen)} breakages killed")
    return 0 if killed == len(chosen) else 1


def verdict(breakage: Breakage) -> str:
    """`killed`, `survived`, or what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        path = Path(folder) / PACKAGE / breakage.file
        text = path.read_text(encoding="utf-8")
        if text.count(breakage.old) != 1:
            return f"found {text.count(breakage.old)} times"
        path.write_text(text.replace(breakage.old, breakage.new), encoding="utf-8")
        return {"passed": "survived", "asserted": "killed"}.get(
            result := run_tests(source, [breakage.test]), result
        )


def run_tests(source: Path, tests: Sequence[str]) -> str:
    """`passed`, `asserted` (an assertion failed, and nothing else went wrong) or `broken`."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        subprocess.run(
            [*command, f"--junitxml={report}", *(f"tests/{test}" for test in tests)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
            capture_output=True,
        )
        return _read(report)


def _read(report: Path) -> str:
    if not report.exists():
        return "broken"
    tree = ElementTree.parse(report)
    failures = [failure.get("message", "") for failure in tree.iter("failure")]
    if list(tree.iter("error")) or not list(tree.iter("testcase")):
        return "broken"
    # pytest.raises that sees no exception, or another message, fails by an assertion too
    asserted = ("assert", "AssertionError", "Failed: DID NOT RAISE")
    if any(not message.startswith(asserted) for message in failures):
        return "broken"
    return "asserted" if failures else "passed"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
