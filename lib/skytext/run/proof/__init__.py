"""The proof at the end of a run: compare the table with independent evidence."""
