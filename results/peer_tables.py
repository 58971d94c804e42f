"""The section of docs/results.md about what runs side by side, from results/peers/*.json."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.peers import SCRIPTS
from benchmarks.window_attention import CAUSAL

from .stored import head, load, row, there

SHORT = {
    "memory_layer": {
        "exact linear memory": "linear memory layer, {} (titans-pytorch at its best over ours)",
        "deep memory": "deep memory layer, {} (titans-pytorch at its best over ours)",
    },
    "inference": {
        "together": "6 x 6 puzzles in batches (full depth's time over halting's)",
        "alone": "6 x 6 puzzles one by one (full depth's time over halting's)",
    },
    "training_step": "training step of a 7 M TRM, {} (official code's time over ours)",
    "supervision_step": "supervision step, {} (tiny-recursive-model's time over ours)",
    "window_attention": "window attention (torch's {} over ours)",
}


def peers() -> list[str]:
    """Ours beside a peer or beside itself done otherwise, in turns in one process."""
    found = {script: load(f"peers/{script}.json") for script in measured()}
    left = [script for script in SCRIPTS if script not in found]
    return [
        "## Side by side",
        "",
        "`nox -s peers -- --official CHECKOUT` runs a script each. Ratios are medians over",
        "repetitions that take turns, with their extremes; above 1, halting or ours is the faster.",
        "",
        *(f"- `benchmarks/{script}.py`: {measured_on(each)}." for script, each in found.items()),
        "",
        *head(["what", "required", "measured", ""]),
        *(cells for each in found.values() for cells in judged(each["lines"])),
        "",
        *(f"Not measured yet: `nox -s peers -- --only {script}`." for script in left),
        "![Ratios, and what is required of them](peers.png)",
        "",
        "Milliseconds, a dot a repetition:",
        "",
        *(line for script in in_turns() for line in (f"![{script}]({script}.png)", "")),
        "![Time and memory of the memory layers over the length](memory_growth.png)",
        "",
        "![Tokens a second over the length of the context](decode.png)",
        "",
    ]


def measured() -> list[str]:
    """The scripts whose figures are there."""
    return [script for script in SCRIPTS if there(f"peers/{script}.json")]


def in_turns() -> list[str]:
    """Those of them that time several ways of doing the same work."""
    return [script for script in measured() if script not in ("memory_growth", "decode")]


def measured_on(found: Mapping[str, Any]) -> str:
    """`2 threads on 2 cores of AMD EPYC, torch 2.13.0+cpu`."""
    machine = found["machine"]
    device = machine["gpu"] or f"{machine['cores']} cores of {machine['processor']}"
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] > 1)}"
    return f"{threads} on {device}, torch {machine['torch']}"


def judged(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row of a table for each requirement and what came out."""
    marks = {True: "holds", False: "**fails**", None: ""}
    return [
        row((line["claim"], line["required"], line["measured"], marks[line["holds"]]))
        for line in lines
    ]


def ratios() -> Iterator[tuple[str, Mapping[str, Any], float | None]]:
    """(what, the ratio, the least that is required or None) of what is compared with a peer."""
    for script in SHORT:
        if script not in measured():
            continue
        found = load(f"peers/{script}.json")
        asked = [line["required"] for line in found["lines"] if line["required"].startswith(">=")]
        least = [float(words.split()[1].rstrip(",")) for words in asked]
        compared = list(_ratios(script, found))
        for (what, ratio), most in zip(compared, least or [None] * len(compared), strict=True):
            yield what, ratio, most


def _ratios(script: str, found: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """In the order of the script's lines."""
    words: Any = SHORT[script]
    if script == "memory_layer":
        for what, layer in found["rows"].items():
            for kind, passes in (("forward", "forward"), ("both", "both passes")):
                yield words[what].format(passes), layer["kinds"][kind]["theirs_over_ours"]
    elif script == "inference":
        for case in found["inference"].values():
            for way, what in words.items():
                yield what, case[way]["full_over_halting"]
    elif script == "training_step":
        for form, ratio in found["training_step"]["official_over_ours"].items():
            yield words.format(form), ratio
    elif script == "supervision_step":
        for mixing, each in found["rows"].items():
            yield words.format(mixing), each["theirs_over_ours"]
    else:
        for name, ratio in found["attention"]["over_ours"].items():
            if name != CAUSAL:  # other work
                yield words.format(name), ratio


def summary() -> list[str]:
    """The README's table: each ratio, and in words whether its goal was reached."""
    lines = head([f"in turns in one process, {_processors()}", "how many times as fast", "goal"])
    for what, ratio, least in ratios():
        spread = f"{ratio['median']:.2f} ({ratio['lowest']:.2f} to {ratio['highest']:.2f})"
        lines.append(row((what, spread, _in_words(ratio["median"], least))))
    return lines


def _in_words(ratio: float, least: float | None) -> str:
    if least is None:
        return "none was set"
    if ratio >= least:
        return f"at least {least:g}: reached"
    return f"at least {least:g}: **missed** by {100 * (1 - ratio / least):.0f} %"


def _processors() -> str:
    """The processors that the ratios were measured on, each with its version of torch."""
    machines = [load(f"peers/{script}.json")["machine"] for script in SHORT if script in measured()]
    named = dict.fromkeys(f"{each['processor']}, torch {each['torch']}" for each in machines)
    return "; ".join(named)
