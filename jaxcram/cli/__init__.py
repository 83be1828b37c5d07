"""Command lines: one thin absl program each."""
