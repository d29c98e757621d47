"""Promote versions of a table, run canaries, roll back, and protect versions that are in use."""
