"""What the rows of runs say: rows in, numbers out."""
