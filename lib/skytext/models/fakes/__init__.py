"""Fakes of the engine and the embedders: fast, deterministic, with configurable failures."""
