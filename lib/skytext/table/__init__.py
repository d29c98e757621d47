"""Read, write, index and query tables. Only this package imports Lance.

A *table* ``T`` is a LanceDB database, in a folder or at a URI. ``T/images.lance`` contains the
images, and ``T/runs.lance`` contains the runs. ``lancedb.connect(T)`` also opens a table.
"""
