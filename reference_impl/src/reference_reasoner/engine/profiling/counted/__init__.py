"""What is counted exactly, without memory and without a clock."""
