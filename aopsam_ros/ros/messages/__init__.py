"""ROS messages from arrays and segmentations, and back."""
