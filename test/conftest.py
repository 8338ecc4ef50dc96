"""What all tests share: the repository's root, and the hand-made bundle."""

from pathlib import Path

import pytest
from hypothesis import settings

from support.tiny_bundle import write_tiny_bundle

# The same examples every time, no time limit: a test must not fail because the machine is busy.
settings.register_profile("aopsam", deadline=None, derandomize=True, database=None)
settings.load_profile("aopsam")


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder with package.xml."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """The folder of a bundle of a few kilobytes."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_folder):
    """A segmenter with that bundle."""
    from aopsam_ros.segmentation.segmenter import Segmenter

    with Segmenter.from_bundle(tiny_folder, engine="onnxruntime", threads=1) as segmenter:
        yield segmenter


@pytest.fixture(scope="session")
def tiny_grid(tiny_folder):
    """A segmenter with that bundle and another prompt source."""
    from aopsam_ros.segmentation.segmenter import Segmenter

    with Segmenter.from_bundle(tiny_folder, prompt_source="grid8", threads=1) as segmenter:
        yield segmenter
