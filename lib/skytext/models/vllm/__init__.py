"""The vLLM engine: start, supervision, and what it says where it cannot start."""
