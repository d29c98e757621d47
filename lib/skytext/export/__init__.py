"""Take the descriptions of a table elsewhere, a few hundred rows in memory at a time (no Ray).

Every format has one function that writes the images that are done to an open binary file, in the
table's order, and returns how many they were.
"""
