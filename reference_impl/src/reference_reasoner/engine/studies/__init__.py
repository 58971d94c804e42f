"""Several trainings that answer one question: variations of a config, times seeds."""
