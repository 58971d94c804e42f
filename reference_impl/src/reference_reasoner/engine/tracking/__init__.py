"""What a run writes down: run.json and its records."""
