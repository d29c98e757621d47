"""Measure search at size: recall, latency, build, memory and disk, for skytext and alternatives.

Vectors are generated (`bench.search.vectors`) with the statistics of real captions; the table is
skytext's own. Every system builds once and answers the same queries, in its own processes.

    python -m bench.search --only skytext --only exact
"""
