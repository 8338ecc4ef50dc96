"""Replayed photographs against the real pipeline: the same figures, each prompt decoded once."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aopsam_ros.data.datasets import open_dataset
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.evaluation.images import read_image
from aopsam_ros.evaluation.metrics import closest, iou_matrix, one_to_one
from aopsam_ros.geometry import resized_geometry
from aopsam_ros.masks.iou import crop_of
from aopsam_ros.masks.rle import decode_full
from aopsam_ros.masks.upscaling import Upscaler
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.tuning.replay import CachedMasks, Replay, cache_prompt
from aopsam_ros.tuning.search_space import SearchSpace
from support.dice import Dice
from support.tiny_bundle import ATTENTION, encoder, with_attention, write_tiny_bundle

GEOMETRY = resized_geometry(20, 28, 32)
LOGITS = st.sampled_from([-9.0, -1.0, -0.999, -0.5, 0.0, 0.001, 0.5, 1.0, 1.001, 9.0])


@given(st.lists(LOGITS, min_size=192, max_size=192), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_cached_logits_pass_the_same_thresholds(values, offset):
    logits = np.array(values, np.float32).reshape(3, 8, 8)
    objects = np.zeros((2, 20, 28), bool)
    objects[0, :10], objects[1, 10:] = True, True
    upscale = Upscaler(GEOMETRY, 8)
    scores = np.float32([0.3, 0.2, 0.1])
    instances = [crop_of(mask) for mask in objects]
    prompt = cache_prompt(logits, scores, offset, upscale, objects, instances)
    cached = CachedMasks([prompt, prompt], 8, offset)
    found = cached.logits(np.array([1, 0, 1]), np.array([0, 1, 2]))
    for threshold in (-offset, 0.0, offset):
        np.testing.assert_array_equal(found > threshold, logits > threshold)
    assert cached.logits(*np.zeros((2, 0), np.int64)).shape == (0, 8, 8)
    assert cached.predicted_iou.tolist() == [prompt.predicted_iou.tolist()] * 2
    for mask in range(3):
        (encoded,) = upscale(logits[mask][None])
        full = decode_full(encoded, 20, 28)
        assert prompt.area[mask] == full.sum()
        wanted = [(full & true).sum() / (full | true).sum() for true in objects]
        np.testing.assert_allclose(prompt.iou[mask], wanted)
        assert not prompt.unlabelled[mask] or not full.any()


def test_a_cached_prompt_is_small():
    """A disc of 256 x 256 logits: a search over a 32 x 32 grid keeps 1,024 such of each image."""
    distance = np.hypot(*(np.indices((256, 256)) - 128.0)).astype(np.float32)
    geometry = resized_geometry(480, 640, 1024)
    logits = np.stack([radius - distance for radius in (20, 40, 80)])
    upscale, true = Upscaler(geometry, 256), np.ones((480, 640), bool)
    prompt = cache_prompt(logits, np.zeros(3, np.float32), 1.0, upscale, [true], [crop_of(true)])
    assert sum(map(len, prompt.levels)) < 10_000


class Bench:
    """The real pipeline and its replay on one loaded model."""

    def __init__(self, folder, data, source, boxes_file):
        engine = EngineOptions(engine="onnxruntime", threads=1)
        self.segmenter = Segmenter.from_bundle(folder, source, engine)
        dataset, file = open_dataset(data), BoxFile(boxes_file)
        self.replay = Replay(self.segmenter, [dataset])
        self.photographs = [read_image(dataset, index) for index in range(len(dataset))]
        needs_boxes = self.segmenter.source.needs_boxes
        self.boxes = [
            file.find(one.labelled.name, [dataset.name]) if needs_boxes else None
            for one in self.photographs
        ]
        pairs = zip(self.photographs, self.boxes, strict=True)
        self.cached = [self.replay.encode(p, 0, boxes) for p, boxes in pairs]

    def compare(self, options):
        frames = zip(self.cached, self.photographs, self.boxes, strict=True)
        for cached, photograph, boxes in frames:
            got = self.replay.run(cached, options)
            found = self.segmenter.segment(photograph.rgb, options, boxes)
            iou = iou_matrix(found, photograph.ground_truth)
            assert got.prompts_decoded == found.prompts_decoded
            assert got.masks == len(found.masks)
            assert got.one_to_one == one_to_one(iou)
            assert got.closest == pytest.approx(closest(iou))


@pytest.fixture(scope="module")
def bench(tiny_folder, data, boxes_file):
    return functools.cache(lambda source: Bench(tiny_folder, data[0], source, boxes_file))


@pytest.mark.parametrize("source", ["predictor", "grid4", "boxes", "box_centres"])
@pytest.mark.parametrize("seed", range(8))
def test_a_replay_comes_to_what_the_pipeline_does(bench, source, seed):
    one = bench(source)
    space = SearchSpace(source == "predictor", frozenset(), None)
    values = space.suggest(Dice(seed))
    one.compare(one.segmenter.options.updated({**values, "asf.batch_size": 1 + seed % 3}))
    least = {"mask.min_area": 400, "mask.predicted_iou_threshold": 0.0}
    one.compare(one.segmenter.options.updated(least))


def test_clusters_are_those_of_the_encoders_attention(tmp_path, data, boxes_file):
    model = {"encoder": with_attention(encoder())}
    folder = write_tiny_bundle(tmp_path / "b", model, attention=ATTENTION)
    one = Bench(folder, data[0], "clusters", boxes_file)
    every = {"mask.combine": "nms", "clusters.preset": "sam1", "mask.predicted_iou_threshold": 0.0}
    one.compare(one.segmenter.options.updated(every))


def test_a_time_budget_plays_no_part(bench):
    one = bench("predictor")
    options = one.segmenter.options
    limited = options.updated({"asf.time_budget_ms": 1, "asf.batch_size": 1})
    free = options.updated({"asf.batch_size": 1})
    assert one.replay.run(one.cached[0], limited) == one.replay.run(one.cached[0], free)
