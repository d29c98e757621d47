"""Access control: API keys, client addresses, host names and rate limits."""
