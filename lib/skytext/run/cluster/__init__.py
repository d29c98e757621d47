"""The Ray cluster: its start, its nodes, and whether a plan fits on them."""
