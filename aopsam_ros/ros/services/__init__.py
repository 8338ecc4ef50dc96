"""Services that a worker's thread answers, between two frames."""
