"""Frozen decoders: one file a family, and the port from Hugging Face checkpoints."""
