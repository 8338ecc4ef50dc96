"""Fast DDS is set up so that images get through, unless the user has own settings."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from aopsam_ros.ros.resources import large_message_environment

VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
CHOICES = (VARIABLE, "FASTDDS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")
IMAGE_OF_4K = 3840 * 2160 * 3


@pytest.fixture(autouse=True)
def no_choice(monkeypatch):
    for name in (*CHOICES, "ROS_DISTRO"):
        monkeypatch.delenv(name, raising=False)


def test_the_shipped_settings_have_room_for_an_image_of_4k():
    ((variable, file),) = large_message_environment().items()
    assert variable == VARIABLE
    (size,) = ElementTree.parse(Path(file)).iterfind(".//{*}segment_size")
    assert int(size.text) > IMAGE_OF_4K


@pytest.mark.parametrize("name", CHOICES)
def test_settings_of_the_user_count(monkeypatch, name):
    monkeypatch.setenv(name, "UDPv4")
    assert large_message_environment() == {}


def test_a_file_in_the_working_folder_counts(monkeypatch, tmp_path):
    (tmp_path / "DEFAULT_FASTRTPS_PROFILES.xml").touch()
    monkeypatch.chdir(tmp_path)
    assert large_message_environment() == {}


def test_humble_is_left_as_it_is(monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", "humble")
    assert large_message_environment() == {}
