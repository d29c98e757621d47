"""Re-indexing: one command for all work that the archive, the settings and the table require."""
