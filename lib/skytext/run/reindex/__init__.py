"""Re-indexing: one command that updates a table after its archive or its settings changed."""
