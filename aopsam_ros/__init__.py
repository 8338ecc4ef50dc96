"""Prompt-free instance segmentation for ROS 2 (AoP-SAM)."""
