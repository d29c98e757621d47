"""Measure recall on published benchmarks and on your own queries. Ray is not used."""
