"""The tasks that this project trains, and the commands that they bring.

Names only: a task is imported when it is asked for, so that `--help` need not wait for torch.
"""

TASKS: dict[str, str] = {
    "digits": ".tasks.digits:DigitsTask",
}
"""{task name: "<module>:<class>"}; the first is the default."""

PRESETS: dict[str, str] = {
    "default": "digits",
    "smoke": "digits",
}
"""{preset name: the task that it belongs to}; a preset's name chooses the task."""

COMMANDS: dict[str, tuple[str, str]] = {}
"""{command: ("<module>:<function>", help)}; the function takes the rest of the command line
and returns an exit code."""
