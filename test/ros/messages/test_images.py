"""Image messages to RGB, against per-pixel formulae; with and without a cv_bridge."""

import array
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from aopsam_ros.errors import InputError
from aopsam_ros.geometry import MAX_SIDE
from aopsam_ros.images.encodings import ENCODINGS, to_rgb
from aopsam_ros.ros.messages import images
from aopsam_ros.ros.messages.images import array_to_image
from support.messages import compressed_image, image_of, raw_image
from support.scenes import boxes_scene

HEIGHT, WIDTH = 6, 8


def read_rgb(message):
    return to_rgb(message, images.bridge_reader())


def noise(channels, dtype=np.uint8):
    high = np.iinfo(dtype).max
    shape = (HEIGHT, WIDTH, channels) if channels > 1 else (HEIGHT, WIDTH)
    return np.random.default_rng(7).integers(0, high, shape, dtype, endpoint=True)


def grey_rgb(raw):
    return np.repeat(raw[:, :, None], 3, axis=2)


def eight_bit(raw):
    return np.rint(raw.astype(np.float64) * 255 / 65535).astype(np.uint8)


def yuv_pixel(y, u, v):
    """BT.601, luma 16-235: the formula of video, in floating point."""
    y, u, v = 1.164383 * (max(int(y), 16) - 16), int(u) - 128.0, int(v) - 128.0
    rgb = (y + 1.596027 * v, y - 0.391762 * u - 0.812968 * v, y + 2.017232 * u)
    return [min(255.0, max(0.0, value)) for value in rgb]


def yuv422_rgb(raw, luma, first, second):
    """raw: bytes `[H, 2 W]`; positions of the luma and chroma bytes in a pair of pixels."""
    pairs = raw.reshape(HEIGHT, WIDTH // 2, 4)
    rgb = [
        [yuv_pixel(p[luma + 2 * i], p[first], p[second]) for p in row for i in (0, 1)]
        for row in pairs
    ]
    return np.array(rgb)


def nv21_rgb(raw):
    rgb = np.zeros((HEIGHT, WIDTH, 3))
    for y in range(HEIGHT):
        for x in range(WIDTH):
            v, u = raw[HEIGHT + y // 2, x // 2 * 2 : x // 2 * 2 + 2]
            rgb[y, x] = yuv_pixel(raw[y, x], u, v)
    return rgb


def mosaic(rgb, pattern):
    """What a sensor with this colour filter sees of the image."""
    raw = np.zeros(rgb.shape[:2], rgb.dtype)
    for place, colour in enumerate(pattern):
        y, x = divmod(place, 2)
        raw[y::2, x::2] = rgb[y::2, x::2, "rgb".index(colour)]
    return raw


EXACT = {
    "rgb8": (3, np.uint8, lambda raw: raw),
    "bgr8": (3, np.uint8, lambda raw: raw[:, :, ::-1]),
    "8UC3": (3, np.uint8, lambda raw: raw[:, :, ::-1]),
    "rgba8": (4, np.uint8, lambda raw: raw[:, :, :3]),
    "bgra8": (4, np.uint8, lambda raw: raw[:, :, 2::-1]),
    "8UC4": (4, np.uint8, lambda raw: raw[:, :, 2::-1]),
    "mono8": (1, np.uint8, grey_rgb),
    "8UC1": (1, np.uint8, grey_rgb),
    "mono16": (1, np.uint16, lambda raw: grey_rgb(eight_bit(raw))),
    "16UC1": (1, np.uint16, lambda raw: grey_rgb(eight_bit(raw))),
    "rgb16": (3, np.uint16, eight_bit),
    "bgr16": (3, np.uint16, lambda raw: eight_bit(raw[:, :, ::-1])),
    "rgba16": (4, np.uint16, lambda raw: eight_bit(raw[:, :, :3])),
    "bgra16": (4, np.uint16, lambda raw: eight_bit(raw[:, :, 2::-1])),
}


BAYER = [f"bayer_{order}{b}" for order in ("rggb", "bggr", "gbrg", "grbg") for b in (8, 16)]
BRIDGE_TYPES = {
    **{name: (channels, dtype) for name, (channels, dtype, _) in EXACT.items()},
    **{name: (1, np.uint16 if name.endswith("16") else np.uint8) for name in BAYER},
    **dict.fromkeys(("yuv422", "yuv422_yuy2"), (2, np.uint8)),
}


class StandInBridge:
    """Reads pixels as cv_bridge does; refuses what the oldest supported cv_bridge refuses."""

    read = 0

    def imgmsg_to_cv2(self, message, desired_encoding):
        assert desired_encoding == "passthrough"
        channels, dtype = BRIDGE_TYPES[message.encoding]
        stored = np.dtype(dtype).newbyteorder(">" if message.is_bigendian else "<")
        values = np.frombuffer(message.data, stored)
        values = values.astype(dtype).reshape(message.height, -1, channels)[:, : message.width]
        StandInBridge.read += 1
        return np.ascontiguousarray(values[:, :, 0] if channels == 1 else values)


@pytest.fixture(params=["own decoder", "cv_bridge"])
def reader(request, monkeypatch):
    """Runs a test with our own decoder, and with a cv_bridge that can be imported."""
    StandInBridge.read = 0
    bridge = SimpleNamespace(CvBridge=StandInBridge) if request.param == "cv_bridge" else None
    install(monkeypatch, bridge)
    yield request.param
    images.bridge_reader.cache_clear()


def install(monkeypatch, bridge):
    monkeypatch.setitem(sys.modules, "cv_bridge", bridge)
    images.bridge_reader.cache_clear()


@pytest.mark.parametrize("padding", [0, 24, 5])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("encoding", EXACT)
def test_packed_encodings(reader, encoding, big_endian, padding):
    channels, dtype, reference = EXACT[encoding]
    raw = noise(channels, dtype)
    rgb = read_rgb(raw_image(raw, encoding, padding, big_endian))
    assert rgb.dtype == np.uint8 and rgb.flags.c_contiguous
    np.testing.assert_array_equal(rgb, reference(raw))
    if reader == "cv_bridge" and padding != 5:
        assert StandInBridge.read == 2  # the trial and this image


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize(
    ("encoding", "places"),
    [(n, (1, 0, 2)) for n in ("yuv422", "uyvy")]
    + [(n, (0, 1, 3)) for n in ("yuv422_yuy2", "yuyv")],
)
def test_yuv422(reader, encoding, places, padding):
    raw = noise(2)
    rgb = read_rgb(raw_image(raw, encoding, padding))
    expected = yuv422_rgb(raw.reshape(HEIGHT, -1), *places)
    assert np.abs(rgb - expected).max() <= 1.5  # cv2 computes in fixed point


@pytest.mark.parametrize("padding", [0, 5])
def test_nv21(reader, padding):
    raw = np.random.default_rng(3).integers(0, 256, (HEIGHT * 3 // 2, WIDTH), np.uint8)
    message = raw_image(raw, "nv21", padding)
    message.height = HEIGHT
    assert np.abs(read_rgb(message) - nv21_rgb(raw)).max() <= 1.5


@pytest.mark.parametrize("encoding", BAYER)
def test_bayer_gives_the_colours_of_the_scene(reader, encoding):
    left, right = (200, 40, 90), (20, 170, 230)
    scene = np.zeros((12, 16, 3), np.uint8)
    scene[:, :8], scene[:, 8:] = left, right
    raw = mosaic(scene, encoding[6:10])
    raw = raw.astype(np.uint16) * 257 if encoding.endswith("16") else raw
    rgb = read_rgb(raw_image(raw, encoding, padding=4))
    # Away from the edge between the two colours, interpolation has nothing to change.
    np.testing.assert_array_equal(rgb[:, :6], np.broadcast_to(left, (12, 6, 3)))
    np.testing.assert_array_equal(rgb[:, 10:], np.broadcast_to(right, (12, 6, 3)))


def test_every_encoding_is_tested_above():
    yuv = {"yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv21"}
    assert set(ENCODINGS) == {*EXACT, *yuv, *BAYER}


@pytest.mark.parametrize("failure", [ImportError, AttributeError("_ARRAY_API"), "wrong"])
def test_a_cv_bridge_that_does_not_work_is_not_used(monkeypatch, failure):
    class Broken:
        def imgmsg_to_cv2(self, message, desired_encoding):
            if isinstance(failure, str):
                return np.zeros((1, 2, 3), np.uint8)
            raise failure

    install(monkeypatch, SimpleNamespace(CvBridge=Broken))
    assert images.bridge_reader() is None
    raw = noise(3)
    np.testing.assert_array_equal(read_rgb(raw_image(raw, "rgb8")), raw)
    images.bridge_reader.cache_clear()


def broken(**changes):
    message = raw_image(noise(3), "rgb8")
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Image(), "encoding ''"),
        (broken(data=array.array("B")), "0 bytes of data, but needs 144"),
        (broken(data=array.array("B", bytes(143))), "143 bytes of data, but needs 144"),
        (broken(step=23), "step is 23 bytes, but a row needs 24"),
        (broken(step=0), "step is 0"),
        (broken(width=0), "empty: 0x6"),
        (broken(height=0), "empty: 8x0"),
        (broken(width=2**32 - 1, height=2**32 - 1, step=2**32 - 1), "too large"),
        (broken(width=MAX_SIDE + 1, step=3 * MAX_SIDE + 3), "too large"),
        (broken(encoding="jpeg"), "encoding 'jpeg' is not supported"),
        (broken(encoding="x\n" * 500), "not supported"),
        (broken(encoding="32FC1"), "'32FC1' is not supported"),
        (broken(encoding="bayer_rggb8", width=2, height=2), "at least 3x3"),
        (broken(encoding="yuv422", width=7), "even"),
        (broken(encoding="nv21", height=5), "even"),
        (broken(encoding="nv21", height=6, step=24), "144 bytes of data, but needs 216"),
        (broken(encoding="mono16", step=15), "a row needs 16"),
    ],
)
def test_defects_are_refused_in_one_line(reader, message, reason):
    with pytest.raises(InputError) as caught:
        read_rgb(message)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_one_pixel_and_8k_are_images(reader):
    assert read_rgb(raw_image(np.full((1, 1, 3), 9, np.uint8), "rgb8")).tolist() == [[[9] * 3]]
    large = np.zeros((4320, 7680), np.uint8)
    large[-1, -1] = 255
    assert read_rgb(raw_image(large, "mono8"))[-1, -1].tolist() == [255] * 3


@pytest.mark.parametrize(
    ("pixels", "encoding"),
    [
        (noise(3), "rgb8"),
        (noise(1, np.uint16), "mono16"),
        (np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8), "32FC1"),
        (noise(3)[::2, ::-1], "rgb8"),
    ],
)
def test_arrays_become_messages(pixels, encoding):
    header = Header(frame_id="camera")
    message = array_to_image(pixels, encoding, header)
    assert message.header is header
    assert (message.height, message.width) == pixels.shape[:2]
    assert message.step * message.height == len(message.data)
    assert isinstance(message.data, array.array) and message.data.typecode == "B"
    back = np.frombuffer(message.data, pixels.dtype).reshape(pixels.shape)
    np.testing.assert_array_equal(back, pixels)


class Buffer:
    """A `rosidl_buffer.Buffer` of ROS 2 Lyrical, as its Python binding has it."""

    backend_type = "cuda"

    def __init__(self, data):
        self._data = bytes(data)

    def __len__(self):
        return len(self._data)

    def to_bytes(self):
        return self._data


@pytest.mark.parametrize("kind", ["raw", "compressed"])
def test_data_in_other_memory_are_copied(kind):
    rgb = boxes_scene()
    message = image_of(rgb) if kind == "raw" else compressed_image(rgb[:, :, ::-1], ".png")
    fields = {name: getattr(message, name) for name in message.get_fields_and_field_types()}
    elsewhere = SimpleNamespace(**{**fields, "data": Buffer(message.data)})
    np.testing.assert_array_equal(to_rgb(elsewhere), rgb)
