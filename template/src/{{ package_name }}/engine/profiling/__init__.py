"""What a model costs: counted exactly, measured on this machine, held against budgets."""
