"""Figures: rows in, matplotlib figure out, no science."""
