"""Entry points for ``ray job submit -- python -m jobs.NAME``. They are not part of the wheel."""
