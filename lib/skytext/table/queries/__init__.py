"""Query one version of a table by vectors, words and conditions, and read the fields of hits."""
