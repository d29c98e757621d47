"""Prompts, requests to the model, and parsing of the model's answers (no Ray, no vLLM)."""
