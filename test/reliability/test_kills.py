"""Processes that are killed or frozen: the others go on."""

import resource
import signal
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from reliability.session import CAMERA, UDP_ALONE, bystander, footprint
from sensor_msgs.msg import CompressedImage

from support.messages import compressed_image, image_of, stamp_of
from support.scenes import boxes_scene

GOOD = image_of(boxes_scene())
PATIENCE_S = 120.0  # six times as long as Fast DDS takes to give up on a participant that died


def test_a_camera_killed_in_the_middle_of_an_image_is_replaced_by_another(robot, tiny_folder):
    robot.start_node(model=tiny_folder)
    robot.activate()
    for _ in range(2):
        # Images of a megabyte, most of it padding: many fragments on the wire.
        with bystander(robot, "camera", "--size", str(1_000_000)) as camera:
            robot.forget()
            robot.wait(lambda: len(robot.received["masks"]) > 2, "no masks")
            camera.kill()
            camera.wait()
        assert len(robot.answer(GOOD).masks) == 2
    robot.reported(DiagnosticStatus.OK, image=GOOD)


def test_a_listener_that_never_reads_is_frozen_or_killed_and_others_get_masks(robot, tiny_folder):
    robot.start_node(model=tiny_folder)
    robot.activate()
    for fate in (signal.SIGSTOP, signal.SIGKILL):
        with bystander(robot, "listener") as listener:
            robot.wait(lambda: robot.node.count_subscribers("/aopsam/masks") > 1, "nobody listens")
            for _ in range(20):  # more than any queue on the way to it holds
                assert len(robot.answer(GOOD).masks) == 2
            before = footprint(robot.process.pid)
            listener.send_signal(fate)
            for _ in range(15):
                robot.forget()
                assert len(robot.answer(GOOD).masks) == 2
            after = footprint(robot.process.pid)
        assert after.resident_mb - before.resident_mb < 20.0
        assert after.threads <= before.threads + 2
        robot.reported(DiagnosticStatus.OK, image=GOOD)


def test_a_node_killed_while_it_works_can_be_started_again(robot, tiny_folder):
    robot.environment.update(UDP_ALONE)  # no shared memory, as it is going to be killed
    robot.start_node(model=tiny_folder, autostart=True)
    robot.wait_for_subscription()

    def answered():
        robot.send(GOOD)
        robot.spin(0.1)  # at a camera's rate: Fast DDS may starve a newcomer while it is flooded
        return any(stamp_of(masks) >= first for masks in robot.received["masks"])

    for _ in range(2):
        assert len(robot.answer(GOOD).masks) == 2
        for _ in range(20):
            robot.send(GOOD)
        assert robot.stop_node(signal.SIGKILL) == -signal.SIGKILL
        robot.start_node(model=tiny_folder, autostart=True)
        assert "/dev/shm/fast" not in Path(f"/proc/{robot.process.pid}/maps").read_text()
        first = robot.send(GOOD).nanosec  # masks of the dead node may come late
        robot.wait(answered, "the new node does not answer", PATIENCE_S)


def test_memory_that_runs_out_is_reported_and_the_next_image_segmented(robot, tiny_folder):
    robot.start_node(model=tiny_folder, image_transport="compressed")
    robot.images = robot.node.create_publisher(CompressedImage, "/image/compressed", CAMERA)
    robot.activate()
    small = compressed_image(boxes_scene()[..., ::-1], ".png")
    huge = compressed_image(np.zeros((8000, 8000, 3), np.uint8), ".png")
    assert len(robot.answer(small).masks) == 2
    pid = robot.process.pid
    # From now on there is room for the file of some KB, not for the 192 MB that are in it.
    used = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    unlimited = resource.prlimit(pid, resource.RLIMIT_AS, (used + (128 << 20), -1))
    text, _ = robot.reported(DiagnosticStatus.ERROR, image=huge)
    assert "emory" in text or "damaged" in text
    robot.forget()
    assert len(robot.answer(small).masks) == 2
    resource.prlimit(pid, resource.RLIMIT_AS, unlimited)
    robot.reported(DiagnosticStatus.OK, image=small)
