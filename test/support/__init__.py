"""What tests share: hand-made bundles and data, stand-ins, a client of the node."""
