"""The application of this checkout. To run it: ``serve run serve.app:build table=TABLE``."""

from skytext.service.replicas.serve_application import build

__all__ = ["build"]
