"""The examples run beside the real node and understand its masks."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from support.live import TIMEOUT_S
from support.messages import image_of
from support.scenes import boxes_scene

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def example(active, tmp_path):
    """Starts an example; its process and its log."""
    started, log = [], tmp_path / "example.log"

    def start(*words):
        command = [sys.executable, "-u", EXAMPLES / words[0], *words[1:]]
        environment = {**os.environ, "ROS_DOMAIN_ID": str(active.domain)}
        with log.open("w") as file:
            started.append(subprocess.Popen(command, env=environment, stdout=file, stderr=file))
        return started[-1], log

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_the_planner_sees_every_object(active, example):
    process, log = example("planner.py")
    topic = "/aopsam/masks"
    active.wait(lambda: active.node.count_subscribers(topic) >= 2, "the planner did not appear")

    def was_printed():
        # The node may not know the planner yet, though the test does: send again.
        active.answer(image_of(boxes_scene()))
        active.spin(0.2)
        return "objects" in log.read_text()

    active.wait(was_printed, "the planner said nothing")
    masks = active.received["masks"][-1].masks
    line = next(line for line in log.read_text().splitlines() if "objects" in line)
    assert f"{len(masks)} objects" in line
    for mask in masks:
        x, y = (float(v) for v in line.split(f" {mask.id} at (")[1].split(")")[0].split(","))
        assert mask.roi.x_offset <= x <= mask.roi.x_offset + mask.roi.width
        assert mask.roi.y_offset <= y <= mask.roi.y_offset + mask.roi.height
    active.answer(image_of(boxes_scene(())))
    active.wait(lambda: " 0 objects" in log.read_text(), "the planner fell silent")
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT_S) == 0
    assert "Traceback" not in log.read_text()


def test_a_click_finds_the_object_at_the_pixel(active, example, tmp_path):
    def click(*words):
        """Run the example to its end; its exit code and what it said."""
        process, log = example("click.py", *words)
        return process.wait(300), log.read_text()

    active.answer(image_of(boxes_scene()))
    code, said = click("30", "35")
    assert code == 0, said
    assert re.search(
        r"\d+ pixels in \((19|2[012]), (29|3[012]), \d+, \d+\), predicted IoU 0.9", said
    )
    file = tmp_path / "image.png"
    cv2.imwrite(str(file), boxes_scene(((60, 10, 50, 30),))[..., ::-1])
    code, said = click("70", "15", file)
    assert code == 0 and re.search(r"in \((59|6[012]), (9|1[012]), ", said), said
    code, said = click("999", "15")
    # Fast DDS may have said something before, as where another program locks its shared memory.
    last = said.strip().splitlines()[-1]
    assert code == 1 and last == "a point lies outside the image of 128x128 pixels", said


@pytest.mark.parametrize("words", [["click.py"], ["click.py", "a", "b"], ["teach.py", "mug", "3"]])
def test_wrong_arguments_are_answered_by_the_usage(words):
    command = [sys.executable, EXAMPLES / words[0], *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith(f"usage: {words[0]} [-h] ")
    assert len(done.stderr.splitlines()) == 2


def test_a_thing_is_taught_by_a_click_and_then_seen(active, example):
    # The tiny model has no semantic map: nano is loaded first, seconds on a busy machine.
    assert not active.set(segment__timeout_ms=60_000)
    active.answer(image_of(boxes_scene()))
    process, log = example("teach.py", "mug", "30", "35")

    def was_seen_there():  # the other box may look like a mug as well
        active.answer(image_of(boxes_scene()))
        places = re.findall(r"mug at \((\d+), (\d+)\)", log.read_text())
        return any(abs(int(x) - 40) <= 2 and abs(int(y) - 40) <= 2 for x, y in places)

    active.wait(was_seen_there, "the mug was not seen", seconds=3 * TIMEOUT_S)
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT_S) == 0
    assert "Traceback" not in log.read_text()
