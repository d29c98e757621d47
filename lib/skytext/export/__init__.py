"""Export the descriptions of a table. Ray is not used.

Each format has one function. The function writes the described images to an open binary file, in
the order of the table, and returns the number of images. Only a few hundred rows are in memory at
the same time.
"""
