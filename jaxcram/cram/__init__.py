"""Cramming: the pass over lanes, the scheduler of passes, and the loop of a run."""
