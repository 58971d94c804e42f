"""One script a question; what runs on a bare machine with a GPU imports nothing of tests/."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
