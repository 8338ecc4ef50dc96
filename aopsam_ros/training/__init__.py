"""Data sets, targets and training loops (needs the `train` extra)."""
