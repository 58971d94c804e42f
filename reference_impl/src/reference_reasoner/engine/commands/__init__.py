"""What each command does: one module a command, with a `main(argv)`.

Imports of torch stand behind the parsing of the arguments: help and mistakes are answered at once.
"""
