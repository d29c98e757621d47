"""Which images a search looks at: typed conditions and the language of ``--where``."""
