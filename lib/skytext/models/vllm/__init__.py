"""The vLLM engine: its start, its supervision, and its error messages."""
