"""Images that show a segmentation to people."""
