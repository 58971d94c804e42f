"""What the loop asks of a task, one optimizer step, the loop, and what survives a kill."""
