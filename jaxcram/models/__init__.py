"""Frozen decoders: one file per family, and loading and saving of Hugging Face checkpoints."""
