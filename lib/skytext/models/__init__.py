"""Captioners (with vLLM), embedders (with sentence-transformers), and fake models for tests."""
