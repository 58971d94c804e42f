"""The memory chunk by chunk in torch, for CPUs."""
