"""Access control with API keys, client addresses, host names and rate limits."""
