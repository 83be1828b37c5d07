"""A run on disk: its directory, settings, identity, tables, log and checkpoints."""
