"""Scores from stored predictions, their intervals, and the report."""
