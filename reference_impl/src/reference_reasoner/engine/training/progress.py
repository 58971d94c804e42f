"""What a person sees while it trains."""

import os
import sys
import time
from collections.abc import Mapping


class Progress:
    """Progress of a training: a line that renews itself on a terminal, elsewhere now and then.

    Plain lines come at evaluations and every `plain_every_s` seconds: a log file should tell
    the story without drowning in it.
    """

    plain_every_s = 10.0

    def __init__(self, last_step: int, terminal: bool | None = None) -> None:
        self.last_step = last_step
        self.terminal = sys.stderr.isatty() if terminal is None else terminal
        self._shown = time.perf_counter()
        self._began: tuple[int, float] | None = None

    def step(self, step: int, record: Mapping[str, float]) -> None:
        """Show a finished step, if it is time to show one."""
        now = time.perf_counter()
        if self._began is None:
            self._began = (step, now)
        if now - self._shown < (0.1 if self.terminal else self.plain_every_s):
            return
        self._shown = now
        steps_done, seconds = step - self._began[0], now - self._began[1]
        rate = record["learning_rate"]
        text = f"step {step}/{self.last_step}  loss {record['loss']:.4f}  lr {rate:.2e}"
        if steps_done:  # the first step ends where the clock starts: it says nothing about speed
            text += f"  {(self.last_step - step) * seconds / steps_done:.0f} s left"
        self._show(text, lasting=False)

    def evaluation(self, step: int, metric: str, value: float, best: bool) -> None:
        """Show a finished evaluation; this line stays."""
        note = "  (best)" if best else ""
        text = f"step {step}/{self.last_step}  validation {metric} {value:.4f}{note}"
        self._show(text, lasting=True)

    def say(self, text: str) -> None:
        """Show a line that stays."""
        self._show(text, lasting=True)

    def _show(self, text: str, *, lasting: bool) -> None:
        try:
            if self.terminal:
                print(f"\r\033[K{text}", end="\n" if lasting else "", file=sys.stderr, flush=True)
            else:
                print(text, file=sys.stderr, flush=True)
        except BrokenPipeError:  # a lost line must not end a training: nobody reads from here on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
