"""Hits and pages of hits."""
