"""Encoders of SAM's family: adapters say how the authors' modules become the parts of our bundles.

An adapter is a function `(architecture, checkpoint, source) -> BundleParts`. The authors' code
comes from their package or from a checkout of it; of it, only what makes the modules is run.
"""
