"""What the training commands share: their data, labels of their own, and frozen models."""
