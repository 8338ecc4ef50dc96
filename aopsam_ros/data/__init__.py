"""Data sets and recordings: labelled images, and pictures without labels."""
