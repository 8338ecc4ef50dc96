"""What the torch engine is made of: an interpreter of ONNX graphs, and the device it runs on."""
