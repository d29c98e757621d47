"""A fake engine and fake embedders. They are fast and deterministic, and simulate failures."""
