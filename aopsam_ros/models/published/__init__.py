"""Graphs that others exported, wrapped to a bundle's signature."""
