"""Generated remote-sensing scenes: their ground truth, their images and their descriptions."""
