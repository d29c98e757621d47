"""From encoded bytes to the pixels that a model gets to see."""
