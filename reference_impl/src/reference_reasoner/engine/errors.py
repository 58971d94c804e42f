"""The two ways in which a command ends badly, and nothing else.

A command turns them into one sentence on stderr and an exit code; everything else that
escapes is a bug and shows its traceback.
"""


class RefusedInputError(Exception):
    """What was asked cannot be done as asked; nothing was written. Exit code 2."""


class RunFailedError(Exception):
    """The work began and could not be finished; what had been saved still holds. Exit code 1."""
