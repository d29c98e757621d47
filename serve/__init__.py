"""Entry points for ``serve run`` and ``serve deploy``; not part of the wheel."""
