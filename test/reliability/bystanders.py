"""Other processes of a robot's domain: cameras, listeners."""

import os
import subprocess
import sys
from contextlib import contextmanager


@contextmanager
def bystander(robot, role, *arguments, **variables):
    """Run one, with these in its environment; it is killed in the end."""
    environment = {**os.environ, "ROS_DOMAIN_ID": str(robot.domain), **variables}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-m", "reliability.bystander", role, *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()
