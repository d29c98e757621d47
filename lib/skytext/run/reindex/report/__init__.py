"""The report of a run, as Markdown and as one HTML file."""
