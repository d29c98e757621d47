"""Fake engine and fake embedders: fast, deterministic, with configurable failures."""
