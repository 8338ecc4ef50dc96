"""The example planner runs beside the real node and understands its masks."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from live import image_of, scene

PLANNER = Path(__file__).resolve().parents[2] / "examples" / "planner.py"


@pytest.fixture
def planner(active, tmp_path):
    """The example's process and its log."""
    log = tmp_path / "planner.log"
    words = [sys.executable, "-u", str(PLANNER), "--ros-args", "-r", "masks:=/aopsam/masks"]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(active.domain)}
    with log.open("w") as file:
        process = subprocess.Popen(words, env=environment, stdout=file, stderr=file)
    yield process, log
    process.kill()
    process.wait()


def test_the_planner_sees_every_object(active, planner):
    process, log = planner
    topic = "/aopsam/masks"
    active.wait(lambda: active.node.count_subscribers(topic) >= 2, "the planner did not appear")

    def told():
        # The node may not know the planner yet, though the test does: send again.
        active.answer(image_of(scene()))
        active.spin(0.2)
        return "objects" in log.read_text()

    active.wait(told, "the planner said nothing")
    masks = active.received["masks"][-1].masks
    line = next(line for line in log.read_text().splitlines() if "objects" in line)
    assert f"{len(masks)} objects" in line
    for mask in masks:
        x, y = (float(v) for v in line.split(f" {mask.id} at (")[1].split(")")[0].split(","))
        assert mask.roi.x_offset <= x <= mask.roi.x_offset + mask.roi.width
        assert mask.roi.y_offset <= y <= mask.roi.y_offset + mask.roi.height
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert "Traceback" not in log.read_text()
