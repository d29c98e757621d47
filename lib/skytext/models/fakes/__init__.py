"""Fakes of the engine and the embedders: fast, deterministic, failing on demand."""
