"""Measure recall on published benchmarks and on your own queries (without Ray)."""
