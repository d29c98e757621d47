"""The formats of shards: each can list and read the images of one."""
