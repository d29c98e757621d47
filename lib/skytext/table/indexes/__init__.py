"""Build, refresh and measure the indexes of a table. An index with low recall is dropped."""
