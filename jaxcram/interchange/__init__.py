"""Runs exchanged with the published research code: its data set read as a run, a run written as it."""
