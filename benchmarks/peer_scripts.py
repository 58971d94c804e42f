"""What the scripts that compare with peers share: our package, their flags, lines and JSON."""

import argparse
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from . import ROOT
from .claims import Line, check_file_for_output, machine
from .in_turns import LEAST_REPETITIONS

RESULTS = ROOT / "results" / "peers"


def use_our_package() -> None:
    """Let `reference_reasoner` be imported: from where Python finds it, else from this checkout.

    `PYTHONPATH=FOLDER/src` measures the project in FOLDER instead.
    """
    if importlib.util.find_spec("reference_reasoner") is None:
        sys.path.append(str(ROOT / "reference_impl" / "src"))


def peer_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the flags that every script that compares takes."""
    parser = measuring_parser(name, description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    return parser


def measuring_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the flags that say how to measure."""
    parser = argparse.ArgumentParser(
        prog=name,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu (default) or cuda")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument(
        "--repetitions",
        type=int,
        default=LEAST_REPETITIONS,
        metavar="N",
        help=f"default and least: {LEAST_REPETITIONS}",
    )
    return parser


def check_shared(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> torch.device:
    """The device, after the shared flags were refused or taken over."""
    if flags.repetitions < LEAST_REPETITIONS:
        parser.error(f"--repetitions {flags.repetitions}: at least {LEAST_REPETITIONS} are taken")
    if flags.threads < 1:
        parser.error(f"--threads {flags.threads}: at least one")
    if flags.device not in ("cpu", "cuda"):
        parser.error(f"--device {flags.device}: cpu or cuda")
    if flags.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here")
    check_file_for_output(parser, "--json", getattr(flags, "json", None))
    torch.set_num_threads(flags.threads)
    return torch.device(flags.device)


def facts(device: torch.device) -> dict[str, Any]:
    """What the figures are true of."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        **machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": device.type,
        "gpu": gpu,
    }


def shown(line: Line) -> Line:
    """The line, printed: a script may take minutes."""
    mark = {True: "holds", False: "FAILS", None: ""}[line.holds]
    print(f"{line.claim:<72} {line.required:<10} {line.measured}  {mark}", flush=True)
    return line


def conclude(
    lines: Sequence[Line], figures: Mapping[str, Any], device: torch.device, path: Path | None
) -> int:
    """Write the lines with the figures behind them; 1 where one does not hold."""
    if path is not None:
        content = {"machine": facts(device), "lines": [asdict(line) for line in lines], **figures}
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return int(any(line.holds is False for line in lines))
