"""Which images a search looks at: CQL2 text and JSON, compiled to typed conditions."""
