"""Captions: prompts, requests to the model, and parsing of its answers (no Ray, no vLLM)."""
