"""The training and the scoring of the demonstration checkpoint."""
