"""The C of the folder native/, built by the machine's own compiler when it is first asked for.

It is for compiled models on CPUs: torch.compile needs a compiler anyway. What is built is kept in
the user's cache; its name comes from the C, the compiler, its flags, the CPU and what was built.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

from ...layers.compile_time import known_when_compiling

SOURCES = Path(__file__).with_name("c")
FLAGS = ("-O3", "-march=native", "-shared", "-fPIC", "-fopenmp")
LONGEST_BUILD_S = 120
UNIT = 16
"""Lengths that C takes are multiples of it, so that no vector and no tile is cut."""


@known_when_compiling
def is_built() -> bool:
    """Whether there is a library; it is built where it has not been."""
    return library() is not None


def call(name: str, *arguments: ctypes.Structure) -> None:
    """One of its functions. Raises MemoryError where that gets no memory to work in."""
    built = library()
    if built is None:
        raise RuntimeError("the memory's C was there when the model was compiled, and is gone")
    if built[name](*map(ctypes.byref, arguments)):
        raise MemoryError("there is no memory left for the chunks of a long-term memory")


@functools.cache
def library() -> ctypes.CDLL | None:
    """What the folder gives; None, after a warning that says why, where it cannot be had."""
    try:
        return _load(_compiler())
    except (OSError, subprocess.SubprocessError) as error:
        warnings.warn(
            f"the memory's C does not serve ({_reason(error)}); torch's own "
            "operators do, more slowly",
            stacklevel=2,
        )
        return None


def _reason(error: Exception) -> str:
    """The first line of what a compiler or the system says."""
    if isinstance(error, subprocess.CalledProcessError) and not error.stderr.strip():
        return f"{error.cmd[0]} failed with exit code {error.returncode}"
    said: str = getattr(error, "stderr", None) or str(error)
    return said.strip().partition("\n")[0]


def _compiler() -> list[str]:
    """The command. Raises FileNotFoundError."""
    named = os.environ.get("CC", "")
    try:
        words = shlex.split(named)
    except ValueError as error:
        raise FileNotFoundError(f"CC is {named!r}, which cannot be read: {error}") from error
    if words and not shutil.which(words[0]):
        raise FileNotFoundError(f"CC is {named!r}, and there is no such command")
    for command in [words] if words else [["cc"], ["gcc"], ["clang"]]:
        if shutil.which(command[0]):
            return command
    raise FileNotFoundError("no C compiler was found: install one, or name it in CC")


def _load(compiler: list[str]) -> ctypes.CDLL:
    """From the cache, or built. Raises OSError and subprocess.SubprocessError."""
    name = f"memory-{_digest(compiler)}"
    for kept in _cache().glob(f"{name}-*.so"):
        with contextlib.suppress(OSError):  # a damaged one must not be loaded: it ends the process
            if kept.stem == f"{name}-{_content(kept)}":
                return ctypes.CDLL(str(kept))
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder, "memory.so")
        subprocess.run(
            [*compiler, *FLAGS, *map(str, sorted(SOURCES.glob("*.c"))), "-o", str(built)],
            check=True, capture_output=True, text=True, timeout=LONGEST_BUILD_S,
        )  # fmt: skip
        if not built.is_file():
            raise FileNotFoundError(f"{compiler[0]} made no library")
        kept = _cache() / f"{name}-{_content(built)}.so"
        copied = kept.with_suffix(f".{os.getpid()}")
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(built, copied)
            copied.replace(kept)
        except OSError:  # a home that cannot be written to; what is loaded needs no file
            with contextlib.suppress(OSError):
                copied.unlink()
            return ctypes.CDLL(str(built))
    return ctypes.CDLL(str(kept))


def _content(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def _cache() -> Path:
    """The user's folder for what can be made again (XDG Base Directory Specification)."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(folder, __name__.partition(".")[0])


def _digest(compiler: list[str]) -> str:
    """Of all that decides what is built."""
    found = hashlib.sha256(repr((compiler, FLAGS, platform.machine(), _cpu())).encode())
    for source in sorted(SOURCES.iterdir()):
        found.update(source.name.encode() + b"\0" + source.read_bytes())
    return found.hexdigest()[:16]


def _cpu() -> str:
    """What the CPU can do; a home may be shared by machines with several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
