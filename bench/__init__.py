"""Measurements: speed as ratios within one run on one machine. `docs/benchmarks.md` has results."""
