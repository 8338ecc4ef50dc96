"""Compressed images: the same pixels as a decoder's, and every damaged file refused."""

import array

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage

from aopsam_ros.errors import InputError
from aopsam_ros.ros.messages.compressed import compressed_to_rgb, picture_size
from support.live import image_of, scene


def compressed(pixels, suffix=".jpg", parameters=()):
    """A message as image_transport's compressed publisher makes it."""
    done, data = cv2.imencode(suffix, pixels, list(parameters))
    assert done
    message = CompressedImage(format="rgb8; jpeg compressed bgr8")
    message.data = array.array("B", data.tobytes())
    return message


def noise(height, width, channels=3, dtype=np.uint8):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)


def test_png_is_lossless():
    pixels = noise(30, 41)
    np.testing.assert_array_equal(compressed_to_rgb(compressed(pixels, ".png")), pixels[:, :, ::-1])


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_pictures(channels):
    pixels = noise(12, 10, channels)
    rgb = compressed_to_rgb(compressed(pixels, ".png"))
    colours = pixels[:, :, None] if channels == 1 else pixels[:, :, 2::-1]
    np.testing.assert_array_equal(rgb, np.broadcast_to(colours, rgb.shape))


def test_sixteen_bits_keep_their_upper_half():
    pixels = noise(12, 10, 1, np.uint16)
    rgb = compressed_to_rgb(compressed(pixels, ".png"))
    np.testing.assert_allclose(rgb[:, :, 0], pixels / 257, atol=1)


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg(progressive, channels):
    smooth = cv2.GaussianBlur(noise(64, 80, channels), (0, 0), 5)
    message = compressed(
        smooth, parameters=[cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    )
    rgb = compressed_to_rgb(message)
    assert picture_size(bytes(message.data), "jpeg") == (80, 64)
    wanted = smooth[:, :, None] if channels == 1 else smooth[:, :, ::-1]
    assert np.abs(rgb.astype(int) - wanted).mean() < 3


def with_orientation(jpeg):
    """The same JPEG with an EXIF tag that asks viewers to turn it by 90 degrees."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    return jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]


def test_pictures_are_not_turned():
    message = compressed(noise(20, 50))
    message.data = array.array("B", with_orientation(bytes(message.data)))
    assert compressed_to_rgb(message).shape == (20, 50, 3)


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
        (damaged(bytes(compressed(noise(9, 9), ".png").data)[:60]), "is damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_defects_are_refused_in_one_line(message, reason):
    with pytest.raises(InputError) as caught:
        compressed_to_rgb(message)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 10_000), st.sampled_from([".jpg", ".png"]))
def test_random_damage_gives_an_image_or_a_reason(seed, suffix):
    rng = np.random.default_rng(seed)
    data = bytearray(compressed(noise(16, 16), suffix).data)
    for _ in range(rng.integers(1, 6)):
        data[rng.integers(len(data))] = rng.integers(256)
    try:
        rgb = compressed_to_rgb(damaged(bytes(data[: rng.integers(1, len(data) + 1)])))
    except InputError:
        return
    assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3


def test_a_live_node_takes_compressed_images(robot, tiny_bundle):
    robot.start_node(model=tiny_bundle, image_transport="compressed")
    robot.images = robot.node.create_publisher(CompressedImage, "/image/compressed", 5)
    robot.activate()
    raw = image_of(scene())
    message = compressed(scene()[:, :, ::-1], ".png")
    message.header = raw.header
    masks = robot.answer(message)
    assert masks.header.frame_id == "camera_optical_frame"
    assert (masks.height, masks.width) == (128, 128) and len(masks.masks) == 2
    answered = len(robot.received["masks"])
    robot.send(damaged(b"not an image"))
    robot.wait(lambda: robot.said("must be JPEG or PNG"), "no warning")
    robot.answer(message)
    assert len(robot.received["masks"]) > answered
