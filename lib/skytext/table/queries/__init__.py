"""Questions to one version of a table: rows near a vector, rows with words, and what hits show."""
