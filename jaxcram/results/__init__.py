"""A run on disk: its directory, settings and identity, its tables, its checkpoints."""
