"""The stores that contain shards: local folders, S3 and Google Cloud Storage."""
