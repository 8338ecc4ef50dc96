#!/usr/bin/env bash
# Sources ROS and the workspace, then runs what it is given.
set -eo pipefail
source /ws/install/setup.bash
exec "$@"
