"""Drawn scenes whose objects the hand-made bundle can find, as data sets."""

import json

import cv2
import numpy as np
import pytest

from support.scenes import write_scenes


def write_boxes(path, folders):
    """Write the objects' boxes, as a detector would give them."""
    content = {}
    for folder in folders:
        for file in sorted((folder / "masks").iterdir()):
            labels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
            rows = []
            for label in range(1, int(labels.max()) + 1):
                y, x = np.nonzero(labels == label)
                rows.append([*map(int, (x.min(), y.min(), x.max() + 1, y.max() + 1)), 0.9, 0])
            content[f"{folder.name}/{file.name}"] = rows
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Two data sets, `near` of three images and `far` of two."""
    folder = tmp_path_factory.mktemp("data")
    return write_scenes(folder / "near", [1, 2, 3]), write_scenes(folder / "far", [4, 5])


@pytest.fixture(scope="session")
def boxes_file(data, tmp_path_factory):
    """The boxes of every object of `data`."""
    return write_boxes(tmp_path_factory.mktemp("boxes") / "boxes.json", data)
