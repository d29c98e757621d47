"""Versions of a table: promotion, canary, rollback, and the versions that services use."""
