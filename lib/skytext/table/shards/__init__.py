"""Lists of the images in each shard, stored in the state folder of the table."""
