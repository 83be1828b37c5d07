"""Tasks: one file each, which turns rows of a table into items; `registry` lists them.

A new task is a file with a `Task`, and its name in the registry.
"""
