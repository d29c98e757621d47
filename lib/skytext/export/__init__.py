"""Export the descriptions of a table, a few hundred rows in memory at a time (no Ray).

Each format has one function. It writes the described images to an open binary file in table order,
and returns their number.
"""
