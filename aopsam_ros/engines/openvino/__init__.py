"""What the OpenVINO engine is made of: the installed package, and graphs compiled with it."""
