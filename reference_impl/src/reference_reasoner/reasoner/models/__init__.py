"""Pure torch modules: they import torch and their own config, nothing else."""
