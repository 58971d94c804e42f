"""Handwritten digits: their data, their model, their task and its budgets."""
