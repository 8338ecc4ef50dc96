"""Published weights: which there are, fetching them, and proof that a file is the published one."""
