"""Images that are segmented side by side: every result its own image's, in the images' order."""

from aopsam_ros.srv import Segment
from support.messages import image_of, stamp_of
from support.scenes import boxes_scene

PICTURES = [image_of(boxes_scene()), image_of(boxes_scene(((20, 30, 40, 20),)))]
COUNTS = [2, 1]  # masks of each


def stream(robot, count, pause_s):
    """Publish images in turns; the pictures' numbers by stamp."""
    sent = {}
    for number in range(count):
        which = number % 2
        sent[robot.send(PICTURES[which]).nanosec] = which
        robot.spin(pause_s)
    return sent


def test_results_are_each_image_s_own_and_in_order(robot, tiny_bundle):
    robot.start_node(model=tiny_bundle, workers=3, threads=1)
    robot.activate()
    robot.answer(PICTURES[0])
    robot.forget()
    sent = stream(robot, 150, 0.005)  # faster than they are segmented
    robot.wait(lambda: robot.received["masks"], "no masks")
    robot.spin(1.0)
    stamps = [stamp_of(masks) for masks in robot.received["masks"]]
    assert len(stamps) > 10
    assert stamps == sorted(set(stamps))
    assert all(len(m.masks) == COUNTS[sent[stamp_of(m)]] for m in robot.received["masks"])
    assert robot.stop_node() == 0


def test_objects_keep_their_ids_and_frames_may_build_on_those_before(robot, tiny_bundle):
    robot.start_node(
        model=tiny_bundle, workers=2, threads=1, tracking__enabled=True, reuse__enabled=True
    )
    robot.activate()
    first = robot.answer(PICTURES[0])
    robot.forget()
    for _ in range(30):
        robot.send(PICTURES[0])
        robot.spin(0.02)
    robot.wait(lambda: len(robot.received["masks"]) > 5, "no masks")
    wanted = sorted(mask.id for mask in first.masks)
    assert all(sorted(m.id for m in masks.masks) == wanted for masks in robot.received["masks"])


def test_requests_are_answered_beside_images_of_several_workers(robot, tiny_bundle):
    robot.start_node(model=tiny_bundle, workers=2, threads=1)
    robot.activate()
    timer = robot.node.create_timer(0.005, lambda: robot.send(PICTURES[1]))
    for _ in range(20):
        request = Segment.Request(image=PICTURES[0], points=[40.0, 40.0], labels=[1])
        response = robot.call(Segment, "segment", request)
        assert response.success, response.message
    timer.cancel()
    assert all(len(masks.masks) == COUNTS[1] for masks in robot.received["masks"])
    assert "fixed" in robot.set(workers=1)[0]
