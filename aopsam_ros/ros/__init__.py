"""The ROS 2 side: the node `aopsam`, and what turns its messages into arrays and back."""
