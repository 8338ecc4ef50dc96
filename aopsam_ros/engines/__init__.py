"""Engines that run a bundle's graphs, the choice among them, and the proof that they are right."""
