"""The standing queries of a table, and the reports about new matching images."""
