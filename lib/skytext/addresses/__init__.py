"""One parser for all addresses: sources, tables, archive roots and files."""
