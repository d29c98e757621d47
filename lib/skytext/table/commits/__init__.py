"""Write rows to a table: claims, staged units, adoption and fenced commits."""
