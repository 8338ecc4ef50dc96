"""Encoders of SAM's family: one adapter a file says how the authors' modules become our graphs.

An adapter has `adapt(architecture, checkpoint, source) -> Adapted`. The authors' code comes from
their package or from a checkout of it; of it, only what makes the modules is run.
"""
