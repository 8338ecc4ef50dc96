"""Pictures of a segmentation for people."""
