"""Matplotlib figures from rows, one function per figure; numbers are computed in analysis/."""
