"""What the TensorRT engine is made of: the module of any version, plans, one loaded engine."""
