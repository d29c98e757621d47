"""How rows get into a table: claim, staging, adoption, fenced commits."""
