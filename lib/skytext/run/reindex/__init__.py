"""Re-indexing: one command that does what the archive, the settings and the table ask for."""
