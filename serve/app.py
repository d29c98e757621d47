"""The application of this checkout: ``serve run serve.app:build table=TABLE``."""

from skytext.service.build import build

__all__ = ["build"]
