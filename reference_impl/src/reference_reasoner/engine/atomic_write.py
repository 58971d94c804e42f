"""Files that are written whole or not at all, and asking first whether one can be written."""

import os
import tempfile
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all, even if the power fails."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = str(path)  # a failed write names no file, a failed open the temporary one
        raise
    finally:
        temporary.unlink(missing_ok=True)


def unwritable(path: Path) -> str | None:
    """Why no file can be written there, or None; for asking before there is anything to write."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    if path.is_dir():
        return "it is a folder"
    if path.exists() and not path.is_file():
        return None  # a pipe, say
    try:
        # permissions do not tell: root has all of them, and yet nobody writes into /proc
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        return f"no file can be written in {path.parent}: {error.strerror or error}"
    return None
