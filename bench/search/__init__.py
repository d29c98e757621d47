"""Measure searches in large tables, for skytext and for alternatives.

The results are recall, latency, build time, memory and disk space. The vectors are generated with
the statistics of real captions (see `bench.search.vectors`). The table has the same schema as a
table of skytext. Each system builds its index once, and runs the same queries. Each system runs in
its own processes.

    python -m bench.search --only skytext --only exact
"""
