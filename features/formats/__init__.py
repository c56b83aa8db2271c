"""Formats of published features, by name: features/formats/registry.py is the table, with a file for each of them."""
