"""TensorBoard event files, replayed from the records."""

import shutil
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class TensorBoardSink:
    """Writes each number of a record as the scalar `<kind>/<name>`.

    The folder is written anew from `records` when a run goes on, so that one curve shows it.
    """

    def __init__(self, folder: Path, records: list[dict[str, Any]]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._writer: Any = SummaryWriter(str(folder))
        for record in records:
            self.write(record)

    def write(self, record: dict[str, Any]) -> None:
        """Write the record's numbers at its step."""
        for name, value in record.items():
            if name not in ("kind", "step") and isinstance(value, int | float):
                self._writer.add_scalar(f"{record['kind']}/{name}", value, record["step"])

    def sync(self) -> None:
        """Flush the event file."""
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()
