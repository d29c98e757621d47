"""Train the demonstration checkpoint, and measure its descriptions."""
