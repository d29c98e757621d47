"""Queries on one version of a table: nearest rows, rows with words, and hit fields."""
