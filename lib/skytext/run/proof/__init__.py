"""The proof at the end of a run: the comparison of the table with independent evidence."""
