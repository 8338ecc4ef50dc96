"""The hand-made bundle, once for all tests."""

import pytest
from hypothesis import settings

from aopsam_ros.segmenter import Segmenter

# The same examples every time, no time limit: a test must not fail because the machine is busy.
settings.register_profile("aopsam", deadline=None, derandomize=True, database=None)
settings.load_profile("aopsam")


@pytest.fixture(scope="session")
def tiny_grid(tiny_folder):
    with Segmenter.from_bundle(tiny_folder, prompt_source="grid8", threads=1) as segmenter:
        yield segmenter
