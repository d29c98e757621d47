"""Evaluation: recall on published benchmarks and on your own queries (no Ray)."""
