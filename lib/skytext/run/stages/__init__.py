"""The operators of the job, one per file."""
