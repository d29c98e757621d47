"""Re-indexing: one command that brings a table up to date with its archive and its settings."""
