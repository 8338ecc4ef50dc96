"""Fast DDS is set up so that images get through."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from aopsam_ros.ros.transport import room_for_images

VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
CHOICES = (VARIABLE, "FASTDDS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")
IMAGE_OF_4K = 3840 * 2160 * 3


@pytest.fixture(autouse=True)
def no_choice(monkeypatch):
    for name in (*CHOICES, "ROS_DISTRO"):
        monkeypatch.delenv(name, raising=False)


def test_the_shipped_settings_have_room_for_an_image_of_4k():
    ((variable, file),) = room_for_images().items()
    assert variable == VARIABLE
    (size,) = ElementTree.parse(Path(file)).iterfind(".//{*}segment_size")
    assert int(size.text) > IMAGE_OF_4K


@pytest.mark.parametrize("name", CHOICES)
def test_settings_of_the_user_count(monkeypatch, name):
    monkeypatch.setenv(name, "UDPv4")
    assert room_for_images() == {}


def test_a_file_in_the_working_folder_counts(monkeypatch, tmp_path):
    (tmp_path / "DEFAULT_FASTRTPS_PROFILES.xml").touch()
    monkeypatch.chdir(tmp_path)
    assert room_for_images() == {}


def test_humble_is_left_as_it_is(monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", "humble")
    assert room_for_images() == {}
