"""Sources of texts, tokenizers, and targets in tokens."""
