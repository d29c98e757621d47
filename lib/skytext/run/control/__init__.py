"""The control of a run: preparation, limits, commits, and interruption."""
