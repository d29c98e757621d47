"""What is asked of the model about an image, and what is made of its answers (no Ray, no vLLM)."""
