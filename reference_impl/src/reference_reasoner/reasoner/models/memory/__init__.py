"""The neural memory: its equations, and what makes them fast."""
