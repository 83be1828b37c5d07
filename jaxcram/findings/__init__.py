"""What analyses find in runs on disk: which analyses there are; their rows, tables and figures."""
