"""Drawn scenes whose objects the hand-made bundle can find, as data sets."""

import signal
import subprocess
import sys
import weakref

import cv2
import numpy as np
import pytest

from aopsam_ros.evaluation.images import EvaluationImage
from support.scenes import write_json, write_scenes

KILLED = """
import os, pydoc, signal, sys
owner, _, name = sys.argv[1].rpartition(".")
owner, left = pydoc.locate(owner), [int(sys.argv[2])]
called = getattr(owner, name)
def until_killed(*a, **k):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return called(*a, **k)
setattr(owner, name, until_killed)
from aopsam_ros.cli import main
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture
def run_until_killed():
    """Run a command that is killed when it calls a function once more than `count` times."""

    def run(called, count, words):
        command = [sys.executable, "-c", KILLED, called, str(count), *words]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL

    return run


@pytest.fixture
def images_in_memory(monkeypatch):
    """How many images were in memory as each was read."""
    made, references, counts = EvaluationImage.__init__, [], []

    def count(self, *fields):
        made(self, *fields)
        references.append(weakref.ref(self))
        counts.append(sum(reference() is not None for reference in references))

    monkeypatch.setattr(EvaluationImage, "__init__", count)
    return counts


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Two data sets, `near` of three images and `far` of two."""
    folder = tmp_path_factory.mktemp("data")
    return write_scenes(folder / "near", [1, 2, 3]), write_scenes(folder / "far", [4, 5])


@pytest.fixture(scope="session")
def boxes_file(data, tmp_path_factory):
    """The boxes of every object of `data`, as a detector would give them."""
    content = {}
    for file in (file for folder in data for file in (folder / "masks").iterdir()):
        labels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        rows = content[f"{file.parents[1].name}/{file.name}"] = []
        for label in range(1, int(labels.max()) + 1):
            y, x = np.nonzero(labels == label)
            rows.append([*map(int, (x.min(), y.min(), x.max() + 1, y.max() + 1)), 0.9, 0])
    return write_json(tmp_path_factory.mktemp("boxes") / "boxes.json", content)
