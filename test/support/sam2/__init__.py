"""The decoder of SAM 2 and answers of its authors' code."""
