"""What the benchmark programs share; the programs themselves are the files beside this folder."""
