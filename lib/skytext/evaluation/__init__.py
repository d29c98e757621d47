"""Measure recall on published benchmarks and on your own queries (this package imports no Ray)."""
