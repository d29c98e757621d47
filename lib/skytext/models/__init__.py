"""Captioners (vLLM), embedders (sentence-transformers), and fakes of both for tests."""
