"""Ways of doing the same work, timed in turns in one process, and what the ratios look like.

On a machine that is busy with other things, too, what slows one way down slows the other down as
much, as long as each turn is short and the two stand next to each other: so ratios are taken turn
by turn, and their median is told with its spread.
"""

import ctypes
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

LEAST_REPETITIONS = 7

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""The numbers of glibc's malloc.h; -1 as the threshold turns trimming off."""


def keep_freed_memory() -> None:
    """Let glibc keep what it gets back, as other allocators do.

    It returns tens of MB to the system each time they are freed, and every 4 KB of them is a page
    fault when they are asked for again: on a virtual machine more than what is computed with them.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, -1)
        mallopt(_MMAP_MAX, 0)


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, the device's work included."""
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_turns(
    ways: Mapping[str, Callable[[int], object]],
    device: torch.device,
    *,
    repetitions: int,
    turns: int = 1,
) -> dict[str, list[float]]:
    """{way: seconds of each repetition}; a way is given the number of the turn, from 0.

    A repetition is `turns` calls of each way, next to each other in an order that changes from
    turn to turn. Every way is called once beforehand and that call does not count.
    """
    for work in ways.values():
        work(0)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(repetitions):
        spent = dict.fromkeys(ways, 0.0)
        for turn in range(turns):
            order = list(ways)
            if (repetition + turn) % 2:
                order.reverse()
            for name in order:
                spent[name] += seconds_of(lambda: ways[name](turn), device)  # noqa: B023
        for name, seconds in spent.items():
            taken[name].append(seconds)
    return taken


def ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, Any]:
    """The ratio of two ways' seconds, repetition by repetition: median, quartiles, extremes.

    Raises ValueError for fewer than two repetitions, or where one way has more than the other.
    """
    each = [one / other for one, other in zip(over, under, strict=True)]
    if len(each) < 2:
        raise ValueError(f"{len(each)} repetitions tell nothing of a spread: take at least 2")
    low, _, high = statistics.quantiles(each, n=4, method="inclusive")
    return {
        "median": statistics.median(each),
        "quartiles": [low, high],
        "lowest": min(each),
        "highest": max(each),
        "repetitions": len(each),
    }


def told(ratio: Mapping[str, Any]) -> str:
    """`2.51 (2.40 to 2.60 in 7 repetitions)`."""
    median, low, high = (f"{ratio[name]:.2f}" for name in ("median", "lowest", "highest"))
    return f"{median} ({low} to {high} in {ratio['repetitions']} repetitions)"
