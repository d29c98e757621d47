"""What steers a run: the cluster, preparation, commits, and an end before the end."""
