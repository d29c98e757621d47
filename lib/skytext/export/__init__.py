"""Export the descriptions of a table (without Ray).

Each format has one function. The function writes the described images to an open binary file, in
the order of the table. It returns the number of images. It holds only a few hundred rows in memory
at the same time.
"""
