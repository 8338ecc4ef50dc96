"""Messages to arrays: compressed images, depth images and a detector's boxes."""

import array
import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage
from vision_msgs.msg import Detection2D, Detection2DArray

from aopsam_ros.errors import InputError
from aopsam_ros.images.compressed import image_size
from aopsam_ros.images.encodings import to_rgb
from aopsam_ros.results import Segmentation
from aopsam_ros.ros.messages.boxes import MAX_DETECTIONS, boxes_of, with_labels
from aopsam_ros.ros.messages.depth import depth_to_metres
from support.drawn_masks import instance_of
from support.messages import compressed_image, detection_of, raw_image


def noise(height, width, channels=3, dtype=np.uint8):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_is_lossless(channels):
    pixels = noise(12, 10, channels)
    rgb = to_rgb(compressed_image(pixels, ".png"))
    colours = pixels[:, :, None] if channels == 1 else pixels[:, :, 2::-1]
    np.testing.assert_array_equal(rgb, np.broadcast_to(colours, rgb.shape))


def test_sixteen_bits_keep_their_upper_half():
    pixels = noise(12, 10, 1, np.uint16)
    rgb = to_rgb(compressed_image(pixels, ".png"))
    np.testing.assert_allclose(rgb[:, :, 0], pixels / 257, atol=1)


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg(progressive, channels):
    smooth = cv2.GaussianBlur(noise(64, 80, channels), (0, 0), 5)
    message = compressed_image(
        smooth, parameters=[cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    )
    rgb = to_rgb(message)
    assert image_size(bytes(message.data), "jpeg") == (80, 64)
    wanted = smooth[:, :, None] if channels == 1 else smooth[:, :, ::-1]
    assert np.abs(rgb.astype(int) - wanted).mean() < 3


def with_orientation(jpeg):
    """The same JPEG with an EXIF tag that asks viewers to turn it by 90 degrees."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    return jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]


def test_images_are_not_turned():
    message = compressed_image(noise(20, 50))
    message.data = array.array("B", with_orientation(bytes(message.data)))
    assert to_rgb(message).shape == (20, 50, 3)


def damaged(data, kind="jpeg"):
    return CompressedImage(format=kind, data=array.array("B", data))


def png_header(width, height):
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (damaged(b""), "is empty"),
        (damaged(b"GIF89a", "gif"), "must be JPEG or PNG, and 'gif' is neither"),
        (damaged(b"\xff\xd8"), "ends after 2 bytes"),
        (damaged(b"\xff\xd8\x00\x00"), "no valid JPEG"),
        (damaged(b"\x89PNG\r\n\x1a\n\0\0"), "ends after 10 bytes"),
        (damaged(png_header(2**31, 2**31)), "too large an image"),
        (damaged(png_header(0, 5)), "is empty: 0x5"),
        (damaged(png_header(5, 5) + bytes(50)), "is damaged"),
        (damaged(bytes(compressed_image(noise(9, 9), ".png").data)[:60]), "is damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_file_is_refused_in_one_line(message, reason):
    with pytest.raises(InputError) as caught:
        to_rgb(message)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("padding", [0, 3, 8])
def test_both_units_become_metres_with_nan_for_unknown(padding, swapped):
    millimetres = np.array([[0, 1500, 65535], [1, 2, 3]], np.uint16)
    expected = np.array([[np.nan, 1.5, 65.535], [0.001, 0.002, 0.003]])
    found = depth_to_metres(raw_image(millimetres, None, padding, swapped))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    metres = np.array([[np.nan, 1.5, -1.0], [0.0, np.inf, 3.4e38]], np.float32)
    found = depth_to_metres(raw_image(metres, None, padding, swapped))
    np.testing.assert_allclose(found, [[np.nan, 1.5, np.nan], [np.nan] * 3])


FLAT = np.ones((4, 5), np.float32)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoding": "mono8"}, "depth must be 32FC1"),
        ({"encoding": "x" * 500}, "depth must be 32FC1"),
        ({"height": 0}, "is empty: 5x0"),
        ({"width": 2**31, "height": 2**31}, "too large"),
        ({"step": 19}, "step of 19 bytes"),
        ({"data": array.array("B", bytes(79))}, "79 bytes of data, but needs 80"),
    ],
)
def test_damaged_depth_is_refused_in_one_line(changes, reason):
    message = raw_image(FLAT)
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(InputError, match=reason) as caught:
        depth_to_metres(message)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_corners_lie_half_a_size_from_the_centre_and_the_best_score_counts():
    message = Detection2DArray(
        detections=[detection_of((8, 17, 4, 6), (0.2, 0.7)), detection_of((4, 4, 2, 2))]
    )
    boxes = boxes_of(message)
    np.testing.assert_array_equal(boxes.corners, [[8, 17, 12, 23], [4, 4, 6, 6]])
    np.testing.assert_allclose(boxes.confidence, [0.7, 1.0])
    assert len(boxes_of(Detection2DArray())) == 0


@given(st.floats(-7, 7), st.floats(0, 50), st.floats(0, 50))
def test_a_turned_box_becomes_the_upright_one_around_it(theta, width, height):
    box = (3 - width / 2, 4 - height / 2, width, height)
    found = boxes_of(Detection2DArray(detections=[detection_of(box, theta=theta)]))
    half = np.array([[a * width / 2, b * height / 2] for a in (-1, 1) for b in (-1, 1)])
    turn = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
    turned = half @ turn.T + [3, 4]
    expected = np.concatenate([turned.min(0), turned.max(0)])
    np.testing.assert_allclose(found.corners[0], expected, atol=1e-9)


DOT = (0, 0, 1, 1)


@pytest.mark.parametrize(
    "bad",
    [
        detection_of((math.nan, 0, 1, 1)),
        detection_of((0, 0, math.inf, 1)),
        detection_of((0, 0, 1, -1)),
        detection_of(DOT, theta=math.nan),
        detection_of(DOT, (math.nan,), [""]),
    ],
)
def test_an_impossible_box_is_refused_in_one_line(bad):
    with pytest.raises(InputError, match="detection 1") as caught:
        boxes_of(Detection2DArray(detections=[detection_of(DOT), bad]))
    assert "\n" not in str(caught.value)


def test_more_boxes_than_any_image_has_are_refused():
    full = Detection2DArray(detections=[Detection2D()] * MAX_DETECTIONS)
    assert len(boxes_of(full)) == MAX_DETECTIONS
    full.detections = [*full.detections, Detection2D()]
    with pytest.raises(InputError, match="1025 detections in one image are more than 1024"):
        boxes_of(full)


def test_masks_are_named_after_the_detection_whose_box_prompted_them():
    unsure = detection_of((8, 17, 4, 6), [0.2], ["dog"])
    sure = detection_of((6, 19, 8, 2), [0.9, 0.1], ["cat", "cow"])
    beyond = detection_of((80, 40, 40, 20), [0.5], ["car"])  # the image ends in its middle
    nameless = detection_of((58, 58, 4, 4))
    sliver = detection_of((-9.5, 0, 10, 4), [0.5], ["bus"])  # half a pixel of it is in the image
    message = Detection2DArray(detections=[unsure, sure, beyond, nameless, sliver])
    places = [(9.5, 19.5), (89.5, 49.5), (59.5, 59.5), (9.5, 25.0), (0.0, 1.5)]
    masks = tuple(instance_of(np.ones((1, 1), bool), prompt=place) for place in places)
    segmentation = Segmentation(80, 100, masks, (), 0, {}, None, "", "")
    found = with_labels(segmentation, boxes_of(message), message)
    assert [mask.label for mask in found.masks] == ["cat", "car", "", "", "bus"]
    nothing = Detection2DArray()
    assert with_labels(segmentation, boxes_of(nothing), nothing).masks == masks


def test_of_boxes_with_one_centre_a_mask_is_named_after_the_one_that_fits():
    plate, cup = np.zeros((2, 80, 100), bool)
    plate[10:50, 20:60] = cup[25:35, 35:45] = True
    message = Detection2DArray(
        detections=[
            detection_of((20, 10, 40, 40), [0.9], ["plate"]),
            detection_of((35, 25, 10, 10), [0.6], ["cup"]),
            detection_of((20, 10, 40, 40), [0.3], ["tray"]),
        ]
    )
    masks = tuple(instance_of(pixels, prompt=(39.5, 29.5)) for pixels in (plate, cup))
    segmentation = Segmentation(80, 100, masks, (), 0, {}, None, "", "")
    found = with_labels(segmentation, boxes_of(message), message)
    assert [(m.label, m.label_score) for m in found.masks] == [("plate", 0.9), ("cup", 0.6)]
