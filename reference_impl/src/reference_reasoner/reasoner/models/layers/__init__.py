"""Layers that attention, memory and the blocks share."""
