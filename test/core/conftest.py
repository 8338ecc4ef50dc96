"""The hand-made bundle with another prompt source."""

import pytest

from aopsam_ros.segmenter import Segmenter


@pytest.fixture(scope="session")
def tiny_grid(tiny_folder):
    with Segmenter.from_bundle(tiny_folder, prompt_source="grid8", threads=1) as segmenter:
        yield segmenter
