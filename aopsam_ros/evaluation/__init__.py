"""Measuring on labelled images: the promptable model alone, and the whole pipeline."""
