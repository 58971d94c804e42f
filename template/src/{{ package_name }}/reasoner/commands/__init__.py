"""The commands that the reasoner brings: one module a command."""
