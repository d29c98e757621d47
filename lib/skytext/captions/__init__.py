"""Prompts, requests to a captioning model, and parsing of its answers (without Ray and vLLM)."""
