"""Export the descriptions of a table (no Ray).

Each format has one function. The function writes the described images to an open binary file, in
the order of the table, and returns the number of images. It keeps only a few hundred rows in memory
at a time.
"""
