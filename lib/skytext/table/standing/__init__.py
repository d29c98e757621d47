"""Standing queries of a table, and the reports about them."""
