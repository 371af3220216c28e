"""One writer per file format, and what all of them capture."""
