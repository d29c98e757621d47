"""Search at size: recall, latency, building, memory and disk of skytext and its alternatives.

Vectors are drawn (`bench.search.vectors`), like those of real captions; the table is skytext's own.
Every system builds once and answers the same queries, in processes of its own.

    python -m bench.search --only skytext --only exact
"""
