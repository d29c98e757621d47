"""Measurements of speed, as ratios within one run on one machine. See `docs/benchmarks.md`."""
