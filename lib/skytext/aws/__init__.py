"""AWS credentials and settings. Each process resolves them once, and uses them for all of S3."""
