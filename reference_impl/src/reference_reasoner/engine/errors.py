"""The two ways in which a command ends badly, and nothing else.

A command turns them into one sentence on stderr and an exit code; everything else that
escapes is a bug and shows its traceback.
"""


class RefusedInputError(Exception):
    """Error for input that is refused; nothing was written. Exit code 2."""


class RunFailedError(Exception):
    """Error for a run that failed on the way; what was saved still holds. Exit code 1."""
