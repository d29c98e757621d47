"""The vector index of a large table, built on a cluster."""
