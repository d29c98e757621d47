"""The AWS credentials and settings. Each process reads these once, and uses them for S3 access."""
