"""What takes a clock on this machine: calls, steps, operators, against its ceilings."""
