"""The store of a table: the check before a table is made, retries, and small objects."""
