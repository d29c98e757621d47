"""The indexes of a table: build, refresh, and measure them. Indexes with low recall are dropped."""
