"""Boxes and points in space, from masks and depth."""
