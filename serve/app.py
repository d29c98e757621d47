"""The application of this checkout. To start it: ``serve run serve.app:build table=TABLE``."""

from skytext.service.replicas.serve_application import build

__all__ = ["build"]
