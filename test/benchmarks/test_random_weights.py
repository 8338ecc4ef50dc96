"""MobileSAM's shapes with random weights."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("PIL")

from aopsam_benchmarks import random_mobile_sam
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.prompting.grid import grid_points
from aopsam_ros.segmentation.segmenter import Segmenter

SIZE = 64  # of the image; the weights do not depend on it


def test_predicted_iou_is_spread_and_prompts_are_decoded_up_to_the_budget(tmp_path):
    """Of the exported graphs, on the image and points that it was scaled for."""
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    random_mobile_sam.write(tmp_path, rgb, SIZE)
    points = grid_points(8, 48, 64)[:, None]
    with Segmenter.from_bundle(tmp_path / "bundle", engine=EngineOptions(threads=1)) as segmenter:
        frame = segmenter.encode(rgb)
        iou = segmenter.decode(frame, points, np.ones((64, 1)))[1][:, 1:]
        grid = segmenter.bundle.options("grid").mask
        result = segmenter.segment(rgb)
    assert iou.mean() == pytest.approx(random_mobile_sam.IOU_MEAN, abs=1e-3)
    assert iou.std(ddof=1) == pytest.approx(random_mobile_sam.IOU_DEVIATION, abs=1e-3)
    passing = 192 * random_mobile_sam.PROMPTS / random_mobile_sam.GRID_MASKS
    assert (iou >= grid.predicted_iou_threshold).sum() == pytest.approx(passing, abs=1)
    assert result.prompts_decoded == min(len(result.prompts), random_mobile_sam.PROMPTS) > 0
