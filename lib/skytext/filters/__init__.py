"""Compile search filters in CQL2 text or CQL2 JSON to typed conditions."""
