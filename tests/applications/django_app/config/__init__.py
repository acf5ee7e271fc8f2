"""Configuration of the notebook project."""
