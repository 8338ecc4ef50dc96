"""The shipped model on the shipped photographs, segmented once for all golden tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aopsam_ros.results import Segmentation
from aopsam_ros.segmentation.segmenter import Segmenter
from support import golden_masks


@pytest.fixture(scope="session")
def segmentations() -> Iterator[dict[str, Segmentation]]:
    """Segmentations of all shipped photographs by file name."""
    segmenter = Segmenter.from_bundle("nano", engine="onnxruntime")
    try:
        yield {
            name: segmenter.segment(golden_masks.read_rgb(name))
            for name in golden_masks.photograph_names()
        }
    finally:
        segmenter.close()
