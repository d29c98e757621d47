"""The stores of shards: local folders, S3 and Google Cloud Storage."""
