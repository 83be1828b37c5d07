"""Texts, and the tokens that a model reads them as: text in, tokens out."""
