"""What ends a run, or an update, before it does harm: numbers, patience, signals."""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType

from ..config.run_config import TrainingConfig
from ..errors import RunFailedError


class StopRequested(Exception):  # noqa: N818 - not an error: a signal asked the run to leave
    """Raised when a signal asks the run to save and leave."""


class SignalGuard:
    """Within its context SIGTERM and SIGINT set a flag; `poll` raises StopRequested once set.

    A second signal acts as it would without this guard: it ends the process at once.
    """

    signals = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def __enter__(self) -> "SignalGuard":
        self._before = {number: signal.signal(number, self._note) for number in self.signals}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        for each in self.signals:
            signal.signal(each, signal.SIG_DFL)

    def poll(self) -> None:
        """Raise StopRequested if a signal has come."""
        if self.received is not None:
            raise StopRequested(self.received.name)

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as a shell reports it; 0 without a signal."""
        return 0 if self.received is None else 128 + self.received


@dataclass(kw_only=True)
class NonFiniteGuard:
    """Counts updates that were skipped because a number in them was not finite."""

    skipped_in_a_row: int = 0
    skipped_steps: int = 0

    def allows_update(
        self,
        step: int,
        numbers: Mapping[str, float],
        finite: bool,
        examples: Sequence[int],
        training: TrainingConfig,
    ) -> bool:
        """Whether to apply the update of `step`; `numbers` are shown where one is not finite.

        A loss scaler expects overflows and lowers its scale, so fp16 always skips. Raises
        RunFailedError under policy `raise`, or after `max_skipped_steps` in a row.
        """
        if finite:
            self.skipped_in_a_row = 0
            return True
        self.skipped_in_a_row += 1
        self.skipped_steps += 1
        patient = training.on_non_finite == "skip" or training.precision == "fp16"
        if patient and self.skipped_in_a_row < training.max_skipped_steps:
            return False
        shown = ", ".join(f"{name} {value:.6g}" for name, value in numbers.items())
        repeated = f" ({self.skipped_in_a_row} steps in a row)" if patient else ""
        some = ", ".join(map(str, examples[:8])) + (" ..." if len(examples) > 8 else "")
        raise RunFailedError(
            f"step {step}{repeated} is not finite: {shown}; examples {some}; look at those "
            "examples, lower training.learning_rate or lengthen training.warmup_steps"
        )


@dataclass(kw_only=True)
class EarlyStopping:
    """Early stopping: counts evaluations since the best one."""

    evaluations_without_best: int = 0

    def note(self, improved: bool) -> None:
        """Count one evaluation."""
        self.evaluations_without_best = 0 if improved else self.evaluations_without_best + 1

    def says_stop(self, training: TrainingConfig) -> bool:
        """Whether patience has run out."""
        patience = training.early_stopping_evaluations
        return 0 < patience <= self.evaluations_without_best
