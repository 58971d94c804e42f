"""Trained models at work: decoding, CUDA graphs, fused blocks and steps."""
