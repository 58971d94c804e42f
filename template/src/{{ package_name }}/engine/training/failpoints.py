"""Named places at which a test can send this process a signal.

`FAILPOINT=checkpoint.before_rename:2:SIGKILL` sends SIGKILL at the second time that the
process comes to `checkpoint.before_rename`, after one line in the file named by
`FAILPOINT_LOG`. Without the variable a failpoint costs one comparison. The crash tests prove
with them that a kill hit the run at work, at each place where one could lose something.
"""

import os
import signal
from collections import Counter
from pathlib import Path

_armed = os.environ.get("FAILPOINT")
_reached: Counter[str] = Counter()


def hit(name: str) -> None:
    """Say that the process came to failpoint `name`, where a crash test kills it."""
    if _armed is None:
        return
    _reached[name] += 1
    wanted, count, action = _armed.split(":")
    if name != wanted or _reached[name] != int(count):
        return
    if log := os.environ.get("FAILPOINT_LOG"):
        with Path(log).open("a", encoding="utf-8") as lines:
            lines.write(f"{name} {count} {action} {os.getpid()}\n")
            lines.flush()
            os.fsync(lines.fileno())
    os.kill(os.getpid(), signal.Signals[action])
