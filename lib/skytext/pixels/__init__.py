"""Convert encoded bytes to the pixels that the model receives."""
