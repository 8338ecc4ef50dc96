"""Measuring on labelled photographs: the promptable model alone, and the whole pipeline."""
