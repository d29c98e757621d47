"""The entry point for the command ``serve run``. This folder is not part of the wheel."""
