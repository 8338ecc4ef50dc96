"""Measures the pipeline: graphs beside their floors, other ways to the same masks, ROS, memory.

Each part is a script of its own, run as a process of its own; `run.py` runs them and joins what
they found. docs/performance.md explains how to read it.
"""
