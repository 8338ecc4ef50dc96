"""Steps that make the virtual environment, each in a file of its own."""
