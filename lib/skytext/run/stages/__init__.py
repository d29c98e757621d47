"""The stages of a run. Each module contains one operator for Ray Data."""
