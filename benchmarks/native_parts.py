"""Where a compiled memory's time goes on a CPU: into which functions of its C, and beside them."""

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def native_parts() -> Iterator[Mapping[str, list[float]]]:
    """{function: seconds of each call} of the C of native/, for as long as it is open."""
    from reference_reasoner.reasoner.models.memory.native import (
        calls as memory_native,
    )
    from reference_reasoner.reasoner.models.memory.native import (
        layer as native_layer,
    )

    found: dict[str, list[float]] = defaultdict(list)
    before = {module: module.call for module in (memory_native, native_layer)}

    def timed(call: Any) -> Any:
        def called(name: str, *arguments: Any) -> None:
            began = time.perf_counter()
            call(name, *arguments)
            found[name].append(time.perf_counter() - began)

        return called

    try:
        for module, call in before.items():
            module.call = timed(call)  # type: ignore[attr-defined]
        yield found
    finally:
        for module, call in before.items():
            module.call = call  # type: ignore[attr-defined]


def in_words(parts: Mapping[str, Sequence[float]], whole: Sequence[float]) -> str:
    """Medians in ms, and what is left of the whole's: Python, dispatch and allocation."""
    medians = {name: 1e3 * statistics.median(seconds) for name, seconds in parts.items()}
    all_of_it = 1e3 * statistics.median(whole)
    said = [f"{name} {ms:.2f}" for name, ms in medians.items()]
    rest = all_of_it - sum(medians.values())
    return f"{', '.join(said)}, beside them {rest:.2f} of {all_of_it:.2f} ms"
