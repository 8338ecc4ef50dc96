"""Prompt-free instance segmentation for ROS 2, after AoP-SAM."""

from pkgutil import extend_path

# The messages (aopsam_ros.msg) are generated into the installed package. A program started in the
# repository finds this source folder first; this lets it see both parts, with the sources on top.
__path__ = extend_path(__path__, __name__)
