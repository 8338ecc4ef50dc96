"""Boxes and points in space: from masks, depth and calibration, and from a live node."""

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray

from aopsam_ros.drawing.palette import colour_of
from aopsam_ros.errors import InputError
from aopsam_ros.msg import Selection
from aopsam_ros.results import Segmentation
from aopsam_ros.ros.messages.detections_3d import detections_3d, labelled_points, locate
from aopsam_ros.space.boxes_3d import fit_box
from aopsam_ros.srv import Select
from support import tiny_bundle
from support.drawn_masks import instance_of, rectangle
from support.messages import calibration_of, image_of, raw_image, stamp_of
from support.scenes import boxes_scene

FRAME = "camera_optical_frame"
HEADER = Header(frame_id=FRAME)
SIZE = 128
DEPTHS = {(20, 30, 40, 20): 1.0, (70, 60, 30, 50): 2.0}  # of the scene's boxes, metres
BACKGROUND_M = 3.0


def segmentation_of(boxes=DEPTHS):
    masks = [
        instance_of(rectangle(y, y + height, x, x + width, (SIZE, SIZE)), number, label="cup")
        for number, (x, y, width, height) in enumerate(boxes, 1)
    ]
    return Segmentation(SIZE, SIZE, tuple(masks), (), 0, {}, None, "", "")


def depth_values(factor=1):
    depth = np.full((SIZE, SIZE), BACKGROUND_M, np.float32)
    for (x, y, width, height), metres in DEPTHS.items():
        depth[y : y + height, x : x + width] = metres
    return np.kron(depth, np.ones((factor, factor), np.float32))


def located(**changes):
    message = raw_image(depth_values())
    calibration = calibration_of(SIZE, SIZE)
    for name, value in changes.items():
        setattr(calibration if hasattr(calibration, name) else message, name, value)
    return locate(segmentation_of(), HEADER, message, calibration, rectified=False)


def expected_box(box, metres):
    """Middle and size of a plate that faces the camera, of its pixels' middles."""
    x, y, width, height = box
    centre = [(x + (width - 1) / 2 - 64) / 100, (y + (height - 1) / 2 - 64) / 100, 1.0]
    return np.array(centre) * metres, np.array([width - 1, height - 1, 0]) / 100 * metres


def numbers(vector):
    return [vector.x, vector.y, vector.z]


@pytest.mark.parametrize("axes", ["optical", "upright", "principal"])
def test_boxes_are_where_the_objects_are(axes):
    boxes = [fit_box(points, axes) for points in located()]
    message = detections_3d(segmentation_of(), boxes, HEADER)
    assert message.header == HEADER
    for (box, metres), found in zip(DEPTHS.items(), message.detections, strict=True):
        centre, size = expected_box(box, metres)
        np.testing.assert_allclose(numbers(found.bbox.center.position), centre, atol=1e-5)
        np.testing.assert_allclose(sorted(numbers(found.bbox.size)), sorted(size), atol=1e-5)
        assert found.results[0].hypothesis.class_id == "cup"
        assert found.results[0].pose.pose == found.bbox.center
    assert [found.id for found in message.detections] == ["1", "2"]


def test_a_mask_without_depth_has_no_box_and_no_points():
    points = located()
    points[0] = points[0][:3]
    message = detections_3d(segmentation_of(), [fit_box(own) for own in points], HEADER)
    assert [found.id for found in message.detections] == ["2"]


def test_points_carry_the_masks_number_and_colour():
    points = located()
    cloud = labelled_points(segmentation_of(), points, HEADER)
    assert (cloud.header, cloud.height) == (HEADER, 1)
    assert len(cloud.data) == cloud.row_step == cloud.width * cloud.point_step
    offsets = {field.name: field.offset for field in cloud.fields}
    assert set(offsets) == {"x", "y", "z", "rgb", "label"}
    rows = np.frombuffer(cloud.data, np.uint8).reshape(cloud.width, cloud.point_step)

    def column(name, kind):
        at = offsets[name]
        return rows[:, at : at + 4].copy().view(kind)[:, 0]

    np.testing.assert_allclose(column("x", np.float32), np.concatenate(points)[:, 0], rtol=1e-6)
    assert set(column("z", np.float32)) == {1.0, 2.0}
    labels = column("label", np.uint32)
    assert set(labels) == {1, 2}
    red, green, blue = colour_of(2)
    assert set(column("rgb", np.uint32)[labels == 2]) == {red << 16 | green << 8 | blue}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"width": 64}, "camera_info is of 64x128 pixels, the image of 128x128"),
        ({"k": [0.0] * 9}, "not calibrated"),
        ({"binning_x": 2}, "binned"),
        ({"encoding": "mono8"}, "depth must be"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(changes, reason):
    with pytest.raises(InputError, match=reason):
        located(**changes)


def test_depth_of_another_frame_and_no_calibration_are_refused():
    message = raw_image(depth_values())
    with pytest.raises(InputError, match="no camera_info"):
        locate(segmentation_of(), HEADER, message, None, rectified=False)
    message.header.frame_id = "depth_frame"
    with pytest.raises(InputError, match=r"depth is in frame 'depth_frame'.* registered"):
        locate(segmentation_of(), HEADER, message, calibration_of(SIZE, SIZE), rectified=False)


@pytest.fixture
def send(active):
    """Send an image and the depth that has its stamp."""
    publisher = active.node.create_publisher(Image, "/depth", 10)

    def send(rgb, depth):
        active.infos.publish(calibration_of(SIZE, SIZE))
        image, message = image_of(rgb), raw_image(depth)
        message.header.stamp = active.stamp(image)
        publisher.publish(message)  # before its image: no patience is tried
        active.images.publish(image)
        active.spin(0.1)

    yield send
    active.node.destroy_publisher(publisher)


def test_a_live_node_puts_masks_into_space_while_that_has_a_subscriber(active, send):
    assert active.set(pairing__timeout_ms=60_000) == []
    active.answer(image_of(boxes_scene()))
    active.wait(lambda: active.node.count_subscribers("/depth") == 0, "depth is taken")
    assert active.node.count_subscribers("/boxes") == 0  # other prompt sources need none
    kinds = {"detections_3d": Detection3DArray, "points": PointCloud2}
    subscriptions = [active.listen(topic, kind) for topic, kind in kinds.items()]
    active.wait(lambda: active.node.count_subscribers("/depth"), "depth is not subscribed to")

    def located():
        send(boxes_scene(), depth_values(2))
        return active.received["detections_3d"] and active.received["points"]

    active.wait(located, "no boxes in space")
    newest = active.received["detections_3d"][-1]
    found = {round(d.bbox.center.position.z, 2): d for d in newest.detections}
    assert set(found) == {1.0, 2.0}
    same = active.with_stamp("masks", stamp_of(newest))
    assert {str(mask.id) for mask in same.masks} == {d.id for d in found.values()}
    assert active.received["points"][-1].header.frame_id == FRAME

    def chosen():
        send(boxes_scene(), depth_values(2))
        request = Select.Request(selection=Selection(point=[30.0, 35.0]))
        response = active.call(Select, "select", request)
        return response if response.has_box_3d else None

    response = active.wait(chosen, "~/select gave no box in space")
    same = found[round(response.pose.position.z, 2)].bbox
    assert (response.pose, response.size) == (same.center, same.size)

    assert not active.logged("no boxes in space"), active.log.read_text()
    assert active.set(pairing__tolerance_ms=0.0) == []  # the robot's stamps are nanoseconds apart
    active.forget()

    active.reported(DiagnosticStatus.WARN, "no boxes in space", image_of(boxes_scene()))
    active.wait(lambda: active.received["masks"], "masks do not go on")
    active.wait(lambda: active.logged("no boxes in space: no depth is within"), "no warning")

    for subscription in subscriptions:
        active.node.destroy_subscription(subscription)
    active.wait(lambda: active.node.count_subscribers("/depth") == 0, "depth is still taken")
    assert not active.logged("Traceback"), active.log.read_text()


def test_touching_masks_of_one_label_stay_apart_where_their_depth_differs(active, send, tmp_path):
    """Two mugs, one before the other; the labeller and the words know only mugs."""
    unsure = tiny_bundle.mask_decoder(ious=(0.1, 0.2, 0.15))
    models = {"labeller": tiny_bundle.labeller("crops"), "mask_decoder": unsure}
    folder = tiny_bundle.write_tiny_bundle(tmp_path / "b", models, labeller=tiny_bundle.CROPS)
    words = tmp_path / "words.npz"
    np.savez(words, names=["mug"], embeddings=[[0.0, 1.0, 0.3]])
    active.configure_anew(model=str(folder), labels__file=str(words))
    active.set(labels__merge=True, mask__predicted_iou_threshold=0.0)
    rgb = np.zeros((SIZE, SIZE, 3), np.uint8)
    rgb[40:60, 20:100, 1:], rgb[60:80, 20:100, 1:] = (220, 60), (120, 60)
    rgb[48:52, 58:62, 0] = rgb[68:72, 58:62, 0] = 255
    assert [m.label for m in active.answer(image_of(rgb)).masks] == ["mug", "", ""]
    active.wait(lambda: active.node.count_subscribers("/depth"), "depth is not subscribed to")
    depth = np.ones((SIZE, SIZE), np.float32)

    def becomes(names, depth):
        active.forget()

        def answered():
            send(rgb, depth)
            newest = active.received["masks"][-1:]
            return [[mask.label for mask in masks.masks] for masks in newest] == [names]

        active.wait(answered, f"the labels are not {names}")

    depth[60:] = 1.5
    becomes(["mug", "mug"], depth)
    active.set(labels__depth_tolerance=0.6)
    becomes(["mug", "", ""], depth)
    active.set(labels__merge_affinity=1.0)
    becomes(["mug", "mug"], depth)
    active.set(labels__merge_affinity=0.8)
    becomes(["mug", "", ""], depth)
    reason = "masks are united without depth: depth of 90x10 pixels does not show"

    def refused():
        send(rgb, np.ones((10, 90), np.float32))  # of another view
        return active.logged(reason)

    active.wait(refused, "no reason is given")
    becomes(["mug", "", ""], depth)
