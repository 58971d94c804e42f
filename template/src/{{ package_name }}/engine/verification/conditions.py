"""What two runs must share for their results to be comparable bit for bit.

Same torch version, kind of device, CPU capability, number of threads, determinism mode and
compile flag, and the same all through the run; anything else changes the last bits.
"""

from typing import Any

from ..config.run_config import RunConfig
from ..training.device import choose_device
from ..training.parallel import Ranks
from ..training.resume import check_environment


def differing_conditions(
    facts: dict[str, Any], config: RunConfig, environment: dict[str, Any], ranks: Ranks
) -> list[str]:
    """A phrase for each condition of the run with the run.json `facts` that is not as it was.

    `config`, `environment` and `ranks` are those of the present.
    """
    device = choose_device(config.runtime).type
    pairs = {
        "threads": (facts["threads"], config.runtime.threads),
        "device": (facts["device"], device),
        "world_size": (facts["world_size"], ranks.world_size),
        **check_environment(facts["environment"], environment),
    }
    found = [f"{k} was {old!r}, now {new!r}" for k, (old, new) in pairs.items() if old != new]
    if device != "cpu" and config.runtime.determinism == "off":
        found.append("runtime.determinism is 'off'")
    for session in facts["sessions"]:
        found += [f"within the run {line.partition(':')[0]}" for line in session["warnings"]]
    return found
