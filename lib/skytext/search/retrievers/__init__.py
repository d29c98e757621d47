"""The ways to look for an image: vectors of its descriptions, their words, its own vector."""
