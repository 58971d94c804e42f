"""What has budgets on a GPU: workloads in their modes, repeated, with their bounds."""
