"""Data sets and recordings: labelled images, and images without labels."""
