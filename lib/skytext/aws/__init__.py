"""The AWS settings of this process, resolved once for all S3 access."""
