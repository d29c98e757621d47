"""Queries on one version of a table: nearest rows, rows with given words, and hit fields."""
