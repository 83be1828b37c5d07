"""Cramming: lanes, stages, the pool and the run."""
