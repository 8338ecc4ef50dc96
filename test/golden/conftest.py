"""The shipped model on the shipped photographs, segmented once for all golden tests."""

import pytest

from aopsam_ros.segmentation.segmenter import Segmenter
from support import golden_masks


@pytest.fixture(scope="session")
def segmentations():
    """Segmentations of all shipped photographs by file name."""
    with Segmenter.from_bundle("nano", engine="onnxruntime") as segmenter:
        names = golden_masks.photograph_names()
        return {name: segmenter.segment(golden_masks.read_rgb(name)) for name in names}
