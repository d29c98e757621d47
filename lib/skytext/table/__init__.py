"""The only place that knows Lance: staging, commits, indexes, runs, searches.

A *table* is a LanceDB database (a folder or URI): ``T/images.lance`` holds the images,
``T/runs.lance`` the runs, so ``lancedb.connect(T)`` opens it too.
"""
