"""TRM x Titans-MAG with ACT halting: data, models, tasks, evaluation, commands, weights."""
