"""Logs, measurements and traces of the service."""
