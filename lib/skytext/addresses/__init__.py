"""One parser for the addresses of sources, tables, archive roots and files."""
