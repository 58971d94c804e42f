"""The memory in C, for compiled models on CPUs: building, loading and calling it."""
