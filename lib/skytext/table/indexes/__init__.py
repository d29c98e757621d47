"""The indexes of a table: build them, measure their recall, drop them if it is too low."""
