"""Convert encoded images to the pixels that the model receives."""
