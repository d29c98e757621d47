"""The vLLM engine, with modules for its start, its supervision and its error messages."""
