"""Puzzles and sequences that the reasoner learns from, made here or read from files."""
