"""Search filters: CQL2 text and JSON, compiled to typed conditions."""
