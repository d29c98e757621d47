"""Captioners (vLLM), embedders (sentence-transformers), and fake versions of both for tests."""
