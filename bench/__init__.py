"""Measurements of speed. A result is the ratio of two speeds in one run on one machine.

See `docs/benchmarks.md`.
"""
