"""Access control: API keys, addresses, host names, rates."""
