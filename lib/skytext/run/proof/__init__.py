"""The proof at the end of a run. The proof compares the table with independent evidence."""
