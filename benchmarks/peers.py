"""`nox -s peers`: every comparison with a peer, or of our model with itself, one after another.

Writes results/peers/<script>.json for each. A script that needs a checkout runs where its path is
given; one that is left out is named, and its older JSON stays as it is. So does that of one that
cannot run: it is named with the reason, the others go on, and the exit code is 1.
"""

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path

from .claims import folder_for_output
from .peer_scripts import RESULTS, check_shared, measuring_parser

SCRIPTS = (
    "memory_layer",
    "memory_growth",
    "inference",
    "decode",
    "training_step",
    "supervision_step",
    "window_attention",
)
"""Modules of this folder with a `main`, in the order in which they run."""
NEEDS = {"training_step": "official"}
"""The flag without which a script has no peer."""
PEERS = {
    "memory_layer": ("titans_pytorch",),
    "supervision_step": ("tiny_recursive_model", "x_transformers"),
}
"""The packages without which a script has no peer: what it calls `NEEDS`."""
SHARED = ("device", "threads", "repetitions")
TAKES = {
    "memory_layer": ("device", "repetitions"),
    "memory_growth": ("repetitions",),
    "inference": (*SHARED, "run"),
    "decode": SHARED,
    "training_step": (*SHARED, "official"),
    "supervision_step": SHARED,
    "window_attention": SHARED,
}
"""The flags that are handed on, beside `--json FILE`; the memory's take two threads."""


def words_of(script: str, flags: argparse.Namespace) -> list[str] | None:
    """What to call a script with; None where its peer is not at hand."""
    needed = NEEDS.get(script)
    if needed is not None and getattr(flags, needed) is None:
        return None
    words = [f"--json={flags.out / script}.json"]
    for name in TAKES[script]:
        value = getattr(flags, name)
        words += [] if value is None else [f"--{name}={value}"]
    return words


def missing_of(script: str) -> list[str]:
    """What to install before a script has its peer."""
    names = PEERS.get(script, ())
    return [name.replace("_", "-") for name in names if importlib.util.find_spec(name) is None]


def run(script: str, words: list[str]) -> bool:
    """Whether a script ran and all that it requires holds; where it could not run, says why."""
    try:
        return not importlib.import_module(f"{__package__}.{script}").main(words)
    except SystemExit as left:
        # a script that refuses a flag has said so itself and leaves with a number
        why = left.code if isinstance(left.code, str) else f"it left with {left.code}, see above"
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    print(f"{script}: could not run: {' '.join(why.split())}", file=sys.stderr, flush=True)
    return False


def main(argv: list[str]) -> int:
    """Run the scripts; 1 where a requirement does not hold or a script could not run."""
    parser = measuring_parser("peers", __doc__)
    parser.add_argument("--official", type=Path, metavar="PATH", help="official TRM checkout")
    parser.add_argument("--run", metavar="DIR", help="a run on puzzles, for `inference`")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="for the JSON")
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=SCRIPTS, metavar="SCRIPT")
    flags = parser.parse_args(argv)
    check_shared(parser, flags)
    if flags.official is not None and not flags.official.is_dir():
        parser.error(f"--official {flags.official}: there is no such folder")
    folder_for_output(parser, "--out", flags.out)
    failed = False
    for script in flags.only:
        words, missing = words_of(script, flags), missing_of(script)
        if missing:
            print(f"{script}: skipped: pip install {' '.join(missing)}", flush=True)
        elif words is None:
            print(f"{script}: skipped: name a checkout with --{NEEDS[script]} PATH", flush=True)
        else:
            failed |= not run(script, words)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
