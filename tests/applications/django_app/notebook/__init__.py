"""A small application of notebooks, notes and tags."""
