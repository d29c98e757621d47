"""The application of this checkout: ``serve run serve.app:build table=TABLE``."""

from skytext.service.replicas.serve_application import build

__all__ = ["build"]
