"""Search a remote-sensing image archive in plain words, with no training."""

__version__ = "0.1.0"
