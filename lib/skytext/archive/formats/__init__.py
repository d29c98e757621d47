"""The shard formats. For each format, one module lists and reads the images in a shard."""
