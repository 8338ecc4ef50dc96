"""Image files: read as people see them."""

import struct

import cv2
import numpy as np
import pytest

from aopsam_ros.errors import InputError
from aopsam_ros.images.files import read_rgb, write_rgb


def test_png_round_trip(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    write_rgb(tmp_path / "p.png", rgb)
    np.testing.assert_array_equal(read_rgb(tmp_path / "p.png"), rgb)


def test_exif_orientation_turns_the_picture(tmp_path):
    rgb = np.zeros((16, 32, 3), np.uint8)
    rgb[:, :16] = 255  # the left half is white
    done, jpeg = cv2.imencode(".jpg", rgb)
    assert done
    # One EXIF entry, orientation 6: the camera was turned, show it turned clockwise.
    entry = struct.pack("<2sHIHHHII", b"II", 42, 8, 1, 0x0112, 3, 1, 6) + b"\0\0\0\0"
    segment = b"Exif\0\0" + entry
    marker = b"\xff\xe1" + struct.pack(">H", len(segment) + 2)
    content = jpeg.tobytes()
    (tmp_path / "p.jpg").write_bytes(content[:2] + marker + segment + content[2:])
    turned = read_rgb(tmp_path / "p.jpg")
    assert turned.shape == (32, 16, 3)
    assert turned[:12].min() > 200 and turned[20:].max() < 50


@pytest.mark.parametrize("cut", [0, 1, 20, 60])
def test_cut_file_is_an_input_error(tmp_path, cut):
    write_rgb(tmp_path / "p.png", np.full((40, 40, 3), 99, np.uint8))
    (tmp_path / "p.png").write_bytes((tmp_path / "p.png").read_bytes()[:cut])
    with pytest.raises(InputError, match=r"p\.png: not an image"):
        read_rgb(tmp_path / "p.png")


@pytest.mark.parametrize("name", ["none.png", "."])
def test_no_file_is_an_input_error(tmp_path, name):
    with pytest.raises(InputError, match="cannot be read"):
        read_rgb(tmp_path / name)


def test_suffix_that_no_format_has_leaves_nothing(tmp_path):
    with pytest.raises((OSError, cv2.error)):
        write_rgb(tmp_path / "p.nothing", np.zeros((2, 2, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []
