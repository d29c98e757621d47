"""Read and write the small objects of a table, check its store, and retry store requests."""
