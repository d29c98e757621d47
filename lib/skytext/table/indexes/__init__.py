"""The indexes of a table: built, measured, kept if they find enough."""
