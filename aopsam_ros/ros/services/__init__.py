"""Services beside the stream: by a worker's thread between two frames, or at once."""
