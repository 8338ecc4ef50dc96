"""Stand-ins for a GPU: its driver, and TensorRT."""
