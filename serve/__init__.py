"""Entry points for ``serve run`` and ``serve deploy``. They are not part of the wheel."""
