"""What happens to a graph between the exporter and the file: checks, rewrites, precisions."""
