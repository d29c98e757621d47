"""The retrievers: by vectors of descriptions, by words of descriptions, and by image vectors."""
