"""Training small decoders from texts."""
