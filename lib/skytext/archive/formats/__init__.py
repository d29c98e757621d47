"""The shard formats: each module can list and read the images of one format."""
