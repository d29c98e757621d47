"""Measure searches in large tables, for skytext and for alternatives.

The results are recall, latency, build time, memory and disk space. The vectors are generated with
the statistics of real captions (`bench.search.vectors`), and the table has skytext's schema. Every
system builds its index once and answers the same queries, in processes of its own.

    python -m bench.search --only skytext --only exact
"""
