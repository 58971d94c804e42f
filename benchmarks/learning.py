"""`nox -s learning`: what the reference model learns, over seeds and against its own variations.

Renders the reference, runs there what a user would run (`study`, `distances`, `evaluate --file`),
and writes a JSON a part to results/learning/, from which results/tables.py makes docs/results.md.
All parts take about three hours on two cores; `--only` takes some, and `--folder` keeps the
project, so that a call that was killed goes on.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import ROOT
from .claims import machine
from .reference_project import PACKAGE, Reference

OUT = ROOT / "results" / "learning"
STUDIES: dict[str, tuple[str, ...]] = {
    "smoke": ("study", "seeds", "recall_smoke", "--seeds", "0,1"),
    "sudoku": (
        *("study", "ablate", "default", "--study-dir", "runs/sudoku", "--seeds", "0,1,2", "--test"),
        *("--vary", "token_mixing", "model.backbone.mixer=tokens"),
        *("model.backbone.use_memory=False", "training.steps=1500"),
    ),
    "diversity": (
        *("study", "seeds", "default", "--study-dir", "runs/diversity", "--seeds", "0,1"),
        *("--model.halting.diversity_weight", "0.05"),
    ),
    "maze": ("study", "seeds", "maze", "--test"),
    "recall": ("study", "ablate", "recall", "--test"),
    "ablations": (
        *("study", "ablate", "default", "--seeds", "0,1,2", "--training.steps", "1500"),
        *("--vary", "one_step", "model.halting.max_steps=1"),
        *("--vary", "two_recursions", "model.recursion.recursions=2"),
        *("--vary", "no_exploration", "model.halting.exploration=0"),
        *("--vary", "diversity", "model.halting.diversity_weight=0.05"),
        *("--vary", "no_memory", "model.backbone.use_memory=False"),
        *("--vary", "little_decay", "training.weight_decay=0.1"),
    ),
    "tuning": (
        *("study", "ablate", "default", "--study-dir", "runs/tuning", "--seeds", "0"),
        *("--training.steps", "1500"),
        *("--vary", "small_batches", "training.batch_size=16", "training.steps=3000"),
        "--vary",
        "token_mixing",
        *("model.backbone.mixer=tokens", "model.backbone.use_memory=False"),
        *("--vary", "cosine", "training.schedule=cosine"),
        *("--vary", "no_augmentation", "data.augment=False"),
        *("--vary", "eight_steps", "model.halting.max_steps=8"),
        *("--vary", "deep_late", "model.recursion.recursions=2"),
        "model.recursion.shallow_share=0.5",
    ),
    "curriculum": (
        *("study", "ablate", "default", "--study-dir", "runs/curriculum", "--seeds", "0,1,2"),
        *("--training.steps", "1500"),
        *("--vary", "curriculum", "data.curriculum=0.5"),
        *("--vary", "deep_and_few", "model.recursion.recursions=2", "model.halting.max_steps=8"),
    ),
    "full_length": (
        *("study", "ablate", "default", "--study-dir", "runs/full", "--seeds", "0"),
        *("--vary", "two_recursions", "model.recursion.recursions=2"),
        *("--vary", "eight_steps", "model.halting.max_steps=8"),
        *("--vary", "no_augmentation", "data.augment=False"),
    ),
}
"""{part: the command of the project that trains and compares}"""
FOLDERS = {
    "smoke": "runs/seeds-recall_smoke",
    "sudoku": "runs/sudoku",
    "diversity": "runs/diversity",
    "maze": "runs/seeds-maze",
    "recall": "runs/ablate-recall",
    "ablations": "runs/ablate-default",
    "tuning": "runs/tuning",
    "curriculum": "runs/curriculum",
    "full_length": "runs/full",
}
HARD = (
    *("generate", "--side", "6", "--count", "2600", "--seed", "1010"),
    *("--out", "halting.txt", "--exclude"),
)
"""Puzzles that no split has, to judge halting by: the test split holds too few."""
JUDGED = {
    "default": ("runs/sudoku/baseline", (0, 1, 2)),
    "token mixing": ("runs/sudoku/token_mixing", (0, 1, 2)),
    "diversity term": ("runs/diversity/baseline", (0, 1)),
    "1,500 steps": ("runs/ablate-default/baseline", (0,)),
    "1,500 steps, diversity term": ("runs/ablate-default/diversity", (0,)),
}
"""{what: (its runs, their seeds)}"""


def study(reference: Reference, part: str) -> dict[str, Any]:
    """Carry the study out; its study.json."""
    reference.run(PACKAGE, *STUDIES[part])
    return read(reference.project / FOLDERS[part] / "study.json")


def recall(reference: Reference) -> dict[str, Any]:
    """The study, and its runs at longer distances."""
    found = study(reference, "recall")
    distances = {}
    for run in [each["run"] for each in found["runs"]]:
        reference.run(PACKAGE, "distances", f"{FOLDERS['recall']}/{run}", "--json", "lines.json")
        distances[run] = read(reference.project / "lines.json")
    return {**found, "distances": distances}


def halting(reference: Reference) -> dict[str, Any]:
    """Runs of `sudoku`, `diversity` and `ablations`, averaged and raw weights, on fresh puzzles."""
    shipped = f"src/{PACKAGE}/data/puzzles"
    splits = [f"{shipped}/6x6-{name}.txt" for name in ("train", "validation", "test")]
    reference.run(PACKAGE, *HARD, *splits)
    runs = [
        {"model": name, "seed": seed, "weights": weights, **judged(reference, run, seed, weights)}
        for name, (run, seeds) in JUDGED.items()
        for seed in seeds
        for weights in ("ema", "raw")
    ]
    run, weights = f"{JUDGED['default'][0]}-seed0", runs[0]["weights_sha256"]
    shown = reference.run("benchmarks.step_by_step", run, weights, "halting.txt")
    return {"puzzles": list(HARD), "runs": runs, "step_by_step": json.loads(shown.out)}


def judged(reference: Reference, run: str, seed: int, weights: str) -> dict[str, Any]:
    """Scores and counts of one run's weights on the fresh puzzles; kept, as they take minutes."""
    kept = reference.project / f"{run}-seed{seed}-{weights}.json"
    if not kept.exists():
        words = ("evaluate", f"{run}-seed{seed}", "--file", "halting.txt", "--checkpoint", weights)
        reference.run(PACKAGE, *words, "--json", str(kept.with_suffix(".scores")))
        result = read(kept.with_suffix(".scores"))
        facts = reference.run("benchmarks.halting_facts", words[1], result["weights_sha256"])
        found = {"command": list(words), **result, "facts": json.loads(facts.out)}
        kept.write_text(json.dumps(found), encoding="utf-8")
    return read(kept)


def foreign(reference: Reference, puzzles: Path | None) -> dict[str, Any]:
    """Foreign puzzles, which nothing was trained on, and whether that is so."""
    if puzzles is None:
        raise SystemExit("learning: --only foreign needs --puzzles FILE")
    return json.loads(reference.run("benchmarks.foreign_overlap", str(puzzles.resolve())).out)


def ema(reference: Reference) -> dict[str, Any]:
    """Averaged against raw weights of the same runs of the study `ablations`, on validation."""
    runs = [f"{FOLDERS['ablations']}/baseline-seed{seed}" for seed in (0, 1, 2)]
    return json.loads(reference.run("benchmarks.ema_difference", *runs).out)


PARTS: dict[str, Callable[[Reference], dict[str, Any]]] = {
    **{part: (lambda reference, part=part: study(reference, part)) for part in STUDIES},
    "recall": recall,
    "halting": halting,
    "ema": ema,
}


def main(argv: list[str]) -> int:
    """Run the parts and write their JSON."""
    parser = argparse.ArgumentParser(prog="learning", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=[*PARTS, "foreign"], default=list(PARTS), metavar="PART"
    )
    parser.add_argument("--folder", type=Path, metavar="DIR", help="keep the project and runs here")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="for the JSON")
    parser.add_argument("--puzzles", type=Path, metavar="FILE", help="foreign ones, for `foreign`")
    flags = parser.parse_args(argv)
    parts = {**PARTS, "foreign": lambda reference: foreign(reference, flags.puzzles)}
    if not flags.out.is_dir():
        parser.error(f"--out {flags.out}: there is no such folder")
    with tempfile.TemporaryDirectory() as temporary:
        reference = Reference((flags.folder or Path(temporary)).resolve())
        for part in flags.only:
            found = {"part": part, "machine": machine(), "commit": reference.commit}
            found |= without_packages(parts[part](reference))
            path = flags.out / f"{part}.json"
            text = json.dumps(found, indent=1).replace(f"{reference.project}/", "")
            path.write_text(text + "\n", encoding="utf-8")
            print(f"{part}: {path}", flush=True)
    return 0


def without_packages(found: dict[str, Any]) -> dict[str, Any]:
    """Without the list of every installed package and the paths of this machine."""
    kept = ("python", "torch", "cpu_capability", "gpu", "cuda")
    environment = found.get("environment")
    if environment is None:
        return found
    return {**found, "environment": {name: environment[name] for name in kept}}


def read(path: Path) -> dict[str, Any]:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
