"""Control of a run: the cluster, preparation, commits, and interruption."""
