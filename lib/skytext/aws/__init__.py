"""AWS credentials and settings, resolved once per process for all S3 access."""
