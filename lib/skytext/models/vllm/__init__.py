"""The vLLM engine: start, supervision, and error messages."""
