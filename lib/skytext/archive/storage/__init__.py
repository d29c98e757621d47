"""Where shards lie: local folders, S3 and Google Cloud Storage."""
