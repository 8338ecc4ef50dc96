"""Streams: what a frame takes over from the one before, and ids that stay with objects."""
