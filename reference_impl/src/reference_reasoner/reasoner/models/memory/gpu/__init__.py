"""The memory's Triton kernels, and what launches them."""
