"""The Ray cluster. These modules start or join it, and check that a plan fits its nodes."""
