"""The report of a run. It is written as a Markdown file and as one HTML file."""
