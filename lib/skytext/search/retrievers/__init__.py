"""The retrievers: by vectors of descriptions, by their words, and by the image's own vector."""
