"""The hand-made bundle, and drawn scenes whose objects it can find, as data sets."""

import pytest
from hypothesis import settings

from aopsam_ros.segmentation.segmenter import Segmenter
from support.scenes import write_boxes, write_scenes
from support.tiny_bundle import write_tiny_bundle

# The same examples every time, no time limit: a test must not fail because the machine is busy.
settings.register_profile("aopsam", deadline=None, derandomize=True, database=None)
settings.load_profile("aopsam")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_folder):
    with Segmenter.from_bundle(tiny_folder, engine="onnxruntime", threads=1) as segmenter:
        yield segmenter


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Two data sets, `near` of three pictures and `far` of two."""
    folder = tmp_path_factory.mktemp("data")
    return write_scenes(folder / "near", [1, 2, 3]), write_scenes(folder / "far", [4, 5])


@pytest.fixture(scope="session")
def boxes_file(data, tmp_path_factory):
    """The boxes of every object of `data`."""
    return write_boxes(tmp_path_factory.mktemp("boxes") / "boxes.json", data)
