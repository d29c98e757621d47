"""The contents of each shard, stored beside the table."""
