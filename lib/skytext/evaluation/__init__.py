"""How good is retrieval: recall on the field's benchmarks, and on one's own queries (no Ray)."""
