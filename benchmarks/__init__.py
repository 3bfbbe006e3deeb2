"""Measurements side by side, that anyone can repeat: `python -m benchmarks.NAME`."""
