"""Labels that ask for nothing."""

IGNORED = -100
"""The label of a position without a target; cross_entropy's `ignore_index`."""
