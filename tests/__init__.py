"""Tests of the template: its questions, what it renders, and how projects update from it."""
