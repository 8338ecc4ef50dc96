"""What the node says of itself: diagnostics, statistics, log, memory."""
