"""Write rows to a table: claim, staging, adoption, fenced commits."""
