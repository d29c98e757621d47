"""The report of a run: what it has to say, as Markdown and as one HTML file."""
