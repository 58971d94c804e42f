"""Runs that take minutes: the evidence behind what the documents claim, one script a question."""
