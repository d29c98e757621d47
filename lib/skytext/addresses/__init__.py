"""Addresses of places: sources, tables, archive roots and files, all read by one parser."""
