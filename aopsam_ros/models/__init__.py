"""Torch definitions of the models, checkpoint loading and ONNX export (needs the `train` extra)."""
