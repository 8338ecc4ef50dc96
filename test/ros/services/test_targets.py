"""~/select, ~/follow and ~/target over DDS, beside a running stream."""

from types import SimpleNamespace

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import Image, RegionOfInterest
from vision_msgs.msg import Detection3DArray

from aopsam_ros.errors import InputError
from aopsam_ros.images.encodings import to_rgb
from aopsam_ros.masks import decode_full
from aopsam_ros.msg import Mask, Selection, Target
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.results import Segmentation
from aopsam_ros.ros.messages.segmentations import mask_message
from aopsam_ros.ros.pairing import Frame, SegmentedFrame
from aopsam_ros.ros.services.targets import _meant, _require_followable
from aopsam_ros.srv import Follow, Segment, Select
from support.drawn_masks import instance_of
from support.messages import box_of, calibration_of, image_of, raw_image, stamp_of
from support.scenes import boxes_scene

GREEN, BLUE = (20, 30, 40, 20), (70, 60, 30, 50)  # x, y, width, height of the scene's boxes
STREAMED = image_of(boxes_scene())
ON_GREEN = Selection(point=[30.0, 35.0])


def select(robot, selection):
    return robot.call(Select, "select", Select.Request(selection=selection))


def follow(robot, **fields):
    return robot.call(Follow, "follow", Follow.Request(**fields))


def target_in(robot, image):
    """The target of an image, once it came."""
    stamp = robot.answer(image).header.stamp
    found = lambda: next((t for t in robot.received["target"] if t.header.stamp == stamp), None)  # noqa: E731
    return robot.wait(found, "no target came")


def is_followed(robot):
    """Whether a target comes for the next image."""
    stamp = robot.answer(STREAMED).header.stamp
    robot.spin(0.3)
    return stamp in [target.header.stamp for target in robot.received["target"]]


@pytest.mark.parametrize(
    ("selection", "meant"),
    [
        (ON_GREEN, GREEN),
        (Selection(box=RegionOfInterest(x_offset=68, y_offset=55, width=30, height=60)), BLUE),
    ],
)
def test_what_is_meant_is_the_streams_own_mask(active, selection, meant):
    masks = active.answer(STREAMED)
    response = select(active, selection)
    assert (response.success, response.message) == (True, "")
    assert response.header == masks.header and (response.height, response.width) == (128, 128)
    assert response.mask in masks.masks
    assert np.abs(np.subtract(box_of(response.mask), meant)).max() <= 2
    assert not response.has_box_3d  # no depth
    assert select(active, Selection(id=response.mask.id)).mask == response.mask


def test_depth_that_does_not_fit_takes_nothing_but_the_box_in_space(active):
    depth = active.node.create_publisher(Image, "/depth", 10)
    subscription = active.listen("detections_3d", Detection3DArray)
    assert active.set(pairing__tolerance_ms=0.0) == []

    def refused():
        active.infos.publish(calibration_of(128, 128))
        message = raw_image(np.full((128, 128), 2.0, np.float32))
        message.header.stamp, message.header.frame_id = active.send(STREAMED), "elsewhere"
        depth.publish(message)
        active.spin(0.1)
        return "depth is in frame 'elsewhere'" in active.health()[1]

    active.wait(refused, "the depth was not refused")
    response = select(active, ON_GREEN)
    assert (response.success, response.has_box_3d) == (True, False), response.message
    active.node.destroy_subscription(subscription)
    active.node.destroy_publisher(depth)


@pytest.mark.parametrize(
    ("selection", "reason"),
    [
        (Selection(), "say what is meant"),
        (Selection(point=[1.0]), "a point is x and y, not 1 numbers"),
        (Selection(point=[float("nan"), 1.0]), "not finite"),
        (Selection(point=[5.0, 5.0]), "no mask of the newest image is at 5, 5"),
        (Selection(label="mug"), "is labelled 'mug'"),
        (Selection(box=RegionOfInterest(width=3)), "the box of 3x0 pixels is empty"),
    ],
)
def test_what_cannot_be_chosen_is_refused_with_a_reason(active, selection, reason):
    active.answer(STREAMED)
    for response in (select(active, selection), follow(active, selection=selection)):
        assert not response.success and reason in response.message


def test_nothing_can_be_chosen_before_an_image_or_from_an_inactive_node(active):
    active.clean_up()
    assert select(active, ON_GREEN).message == "the node is not active"
    active.activate()
    assert follow(active, selection=ON_GREEN).message == "no image has been segmented yet"
    stopped = follow(active, stop=True, selection=ON_GREEN)  # which needs none
    assert (stopped.success, stopped.message) == (True, "")
    active.clean_up()
    assert follow(active, stop=True).message == "the node is not active"


def test_a_thing_is_followed_lost_found_and_no_longer_followed(active):
    active.answer(STREAMED)
    chosen = follow(active, selection=ON_GREEN)
    assert chosen.success, chosen.message
    moved = (26, 34, 40, 20)
    target = target_in(active, image_of(boxes_scene((moved, BLUE))))
    assert target.state == Target.FOLLOWED and target.mask.id == chosen.mask.id
    assert np.abs(np.subtract(box_of(target.mask), moved)).max() <= 2
    assert decode_full(target.mask, target.height, target.width)[40, 40]
    hidden = boxes_scene((moved, BLUE))
    hidden[34:54, 26:66] = 0
    target = target_in(active, image_of(hidden))
    assert (target.state, target.images_lost, len(target.mask.counts)) == (Target.LOST, 1, 0)
    assert target_in(active, STREAMED).state == Target.FOLLOWED
    assert follow(active, stop=True).success
    assert not is_followed(active)
    assert not active.logged("Traceback"), active.log.read_text()


def test_a_mask_of_segment_is_followed_and_given_up_in_the_end(active):
    active.answer(STREAMED)
    request = Segment.Request(points=[30.0, 35.0])
    (mask,) = active.call(Segment, "segment", request).masks
    assert follow(active, mask=mask).success
    assert target_in(active, STREAMED).state == Target.FOLLOWED
    active.set(follow__max_lost=1)  # holds for what is followed already
    without = image_of(boxes_scene(()))
    states = [target_in(active, without).state for _ in range(2)]
    assert states == [Target.LOST, Target.GIVEN_UP]
    assert not is_followed(active)
    beyond = RegionOfInterest(x_offset=120, width=40, height=20)
    refused = follow(active, mask=Mask(roi=beyond, counts=[0, 800]))
    assert "is not inside the image" in refused.message
    empty = Mask(roi=RegionOfInterest(width=2, height=2), counts=[4])
    assert follow(active, mask=empty).message == "the mask is empty"
    pixel = Mask(roi=RegionOfInterest(x_offset=30, y_offset=35, width=1, height=1), counts=[0, 1])
    assert "too small to follow" in follow(active, mask=pixel).message


def test_a_mask_of_the_stream_that_is_too_small_is_refused_as_well(tiny):
    """Between the centres of the model's cells it fills none, though the stream shows it."""
    pixels = np.zeros((1024, 1024), np.bool_)
    pixels[500:504, 500:504] = True
    frame = SimpleNamespace(configuration=SimpleNamespace(options=SegmenterOptions()))
    rgb = np.zeros((*pixels.shape, 3), np.uint8)
    with pytest.raises(InputError, match="too small to follow"):
        _require_followable(instance_of(pixels), frame, rgb, tiny)


def test_a_mask_of_the_request_is_one_of_the_image_that_segment_looked_at():
    """A newer image has come since the newest one that was segmented."""
    pixels = np.zeros((128, 128), np.bool_)
    pixels[30:50, 20:60] = True
    newest, before = Frame(STREAMED, 0.0, None), Frame(image_of(boxes_scene(())), 0.0, None)
    found = Segmentation(128, 128, (instance_of(pixels),), (), 0, {}, None, "", "")
    segmented = SegmentedFrame(before, boxes_scene(()), found, None)
    pipeline = SimpleNamespace(newest=newest, segmented=segmented)
    given = Follow.Request(mask=mask_message(instance_of(pixels)))
    for request, frame in ((given, newest), (Follow.Request(selection=ON_GREEN), before)):
        meant, rgb, _ = _meant(pipeline, request)
        assert meant is frame and (rgb == to_rgb(frame.image)).all()
    pipeline.newest = None
    with pytest.raises(InputError, match="no image has come yet"):
        _meant(pipeline, given)


def test_crops_that_the_prompt_source_does_not_make_end_no_following(active):
    result = active.set_atomically(grid__crop_layers=1)
    assert result.reason == "grid.crop_layers has no effect with the prompt source 'predictor'"
    active.answer(STREAMED)
    response = follow(active, selection=ON_GREEN)
    assert response.success, response.message
    assert target_in(active, STREAMED).state == Target.FOLLOWED


def test_a_target_is_forgotten_when_the_node_is_deactivated(active):
    active.answer(STREAMED)
    assert follow(active, selection=ON_GREEN).success
    assert active.change(Transition.TRANSITION_DEACTIVATE)
    active.activate()
    assert not is_followed(active)


def test_edges_and_the_most_salient_masks_come_while_somebody_listens(active):
    active.set(salient__count=1)
    masks = active.answer(STREAMED)
    edges, salient = (active.with_stamp(t, stamp_of(masks)) for t in ("edges", "salient"))
    assert (edges.header, edges.encoding) == (masks.header, "mono8")
    pixels = np.frombuffer(edges.data, np.uint8).reshape(128, 128)
    assert pixels[30:50, 18:22].any(axis=1).mean() > 0.8  # the green box's left side
    assert not pixels[34:46, 26:54].any()  # and nothing inside it
    assert salient.header == masks.header and len(salient.masks) == 1
    assert salient.age_ms >= masks.age_ms > 0
    assert salient.masks[0] in masks.masks
