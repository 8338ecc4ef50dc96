"""Drawn scenes whose objects the hand-made bundle can find, as data sets."""

import pytest

from support.scenes import write_boxes, write_scenes


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Two data sets, `near` of three images and `far` of two."""
    folder = tmp_path_factory.mktemp("data")
    return write_scenes(folder / "near", [1, 2, 3]), write_scenes(folder / "far", [4, 5])


@pytest.fixture(scope="session")
def boxes_file(data, tmp_path_factory):
    """The boxes of every object of `data`."""
    return write_boxes(tmp_path_factory.mktemp("boxes") / "boxes.json", data)
