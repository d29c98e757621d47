"""Who may use the service: keys, addresses, host names, rates."""
