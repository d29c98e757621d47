"""The only package that imports Lance: staging, commits, indexes, run records, queries.

A *table* is a LanceDB database (a folder or URI): ``T/images.lance`` holds the images,
``T/runs.lance`` the runs. ``lancedb.connect(T)`` also opens it.
"""
