"""Find and read rows of the ``images`` data set."""
