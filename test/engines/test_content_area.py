"""Padding left out: what graphs see, what comes back, and engines that need the square."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.engines.base import EngineOptions, all_logits
from aopsam_ros.engines.onnxruntime import OnnxRuntimeEngine
from aopsam_ros.engines.verification import answers, compare, sample_inputs
from aopsam_ros.errors import BundleError
from aopsam_ros.geometry import ContentArea, content_area, pad_to_square
from aopsam_ros.segmentation.segmenter import Segmenter
from support import golden_masks
from support.scenes import best_ious, full_masks
from support.tiny_bundle import (
    IMAGE,
    MAP,
    SIZE,
    encoder,
    mask_decoder,
    open_sides,
    prompt_predictor,
    with_mask_input,
    write_tiny_bundle,
)  # fmt: skip
from support.tiny_split import parts, write_split_bundle

SQUARE = 512  # of nano
VALID = 300, 512


@given(
    multiple=st.sampled_from([1, 2, 8, 32]),
    times=st.integers(1, 20),
    share=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)),
)
def test_what_graphs_see_is_the_least_that_holds_the_image(multiple, times, share):
    square = 32 * times
    valid = tuple(max(1, round(square * part)) for part in share)
    area = content_area(valid, square, multiple)
    for side, needed in zip((area.rows, area.columns), valid, strict=True):
        allowed = [n for n in range(multiple, square + 1, multiple) if n >= needed]
        assert side == min(allowed)


def test_the_square_where_nothing_is_known_or_nothing_else_will_do():
    assert content_area(None, 512, 32) == content_area((300, 512), 512, 0)
    assert content_area(None, 512, 32) == ContentArea(512, 512, 512)


def test_a_part_is_the_top_left_of_the_square():
    part = np.random.default_rng(0).random((2, 3, 5)).astype(np.float32)
    whole = pad_to_square(part, 6)
    assert np.array_equal(whole[:, :3, :5], part)
    assert not whole[:, 3:].any() and not whole[:, :, 5:].any()
    assert pad_to_square(whole, 6) is whole


@pytest.fixture(scope="module")
def nano(engine, nano_bundle):
    return engine(nano_bundle, EngineOptions(threads=1, precision="fp32"))


def seen(loaded, image, valid):
    """All that comes of an image: embedding, confidence map, logits, predicted IoU."""
    handle = loaded.encode(image, valid)
    coords = np.float32([[[100, 100]], [[400, 250]]])
    decoded = loaded.decode(handle, coords, np.ones((2, 1), np.float32))
    maps = loaded.embedding(handle), loaded.predict(image, handle).confidence_map
    return *maps, all_logits(decoded), decoded.predicted_iou


def padded(fill):
    image = np.full((1, 3, SQUARE, SQUARE), fill, np.float32)
    noise = np.random.default_rng(1).normal(0, 1, (30, 52, 3)).astype(np.float32)
    image[0, :, :300] = cv2.resize(noise, (512, 300)).transpose(2, 0, 1)
    image[:, :, 300:320] = 0.0  # up to a multiple of 32 padding is seen
    return image


def test_what_is_left_out_plays_no_part(nano):
    for found, wanted in zip(
        seen(nano, padded(99.0), VALID), seen(nano, padded(0.0), VALID), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


def test_everything_comes_back_over_the_square(nano):
    embedding, confidence, logits, iou = seen(nano, padded(0.0), VALID)
    square = seen(nano, padded(0.0), None)
    assert [x.shape for x in (embedding, confidence, logits, iou)] == [x.shape for x in square]
    assert not embedding[:, :, 20:].any() and not confidence[80:].any()
    np.testing.assert_array_equal(logits[:, :, 80:], np.repeat(logits[:, :, 79:80], 48, axis=2))


def test_the_option_gives_nearly_the_same_masks(nano, nano_bundle):
    segmenter = Segmenter(nano_bundle, nano)
    every = segmenter.options.updated(golden_masks.everything_options())
    rgb = golden_masks.read_rgb("coffee.jpg")
    square = segmenter.segment(rgb, every.updated({"mask.predicted_iou_threshold": 0.7}))
    found = segmenter.segment(rgb, every.updated({"encoder.padding": "least"}))
    best = best_ious(full_masks(square), full_masks(found))
    assert len(best) >= 5
    assert np.median(best) > 0.9 and np.mean(best) > 0.85


OPEN = {"encoder": open_sides(encoder()), "prompt_predictor": open_sides(prompt_predictor())}


def test_engines_that_need_the_square_take_it(gpu, tmp_path):
    bundle = load_bundle(write_tiny_bundle(tmp_path / "b", OPEN, size_divisibility=4))
    samples = sample_inputs(bundle)
    loaded = gpu.start(bundle)
    compare("TensorRT", answers(loaded, samples), answers(OnnxRuntimeEngine(bundle), samples))
    handle = loaded.encode(IMAGE, (SIZE // 2, SIZE))
    assert loaded.embedding(handle)[:, :, MAP // 2 :].any()  # nothing was left out
    loaded.close()


def test_a_mask_input_takes_the_square_of_what_was_encoded(tmp_path, engine):
    split = {name: open_sides(model) for name, model in parts().items()}
    models = {**OPEN, "mask_decoder": with_mask_input(mask_decoder())}
    folder = write_split_bundle(tmp_path / "b", split, models=models, size_divisibility=4)
    loaded = engine(load_bundle(folder), EngineOptions(precision="fp32"))
    handle = loaded.encode(IMAGE, (SIZE // 2, SIZE))
    prompts = np.float32([[[30, 20]]]), np.ones((1, 1), np.float32)
    logits = all_logits(loaded.decode(handle, *prompts, np.zeros((1, 1, MAP, MAP), np.float32)))
    assert logits.shape == (1, 3, MAP, MAP)
    shown, beyond = logits[0, :, : MAP // 2], logits[0, :, MAP // 2 :]
    assert (np.ptp(beyond, axis=(1, 2)) == 0).all() and (np.ptp(shown, axis=(1, 2)) > 1).all()


@pytest.mark.parametrize("graph", ["encoder", "prompt_predictor", "decoder_frame"])
def test_graphs_for_squares_only_are_refused_where_others_are_promised(tmp_path, engine, graph):
    whole = {name: model for name, model in OPEN.items() if name != graph}
    split = {name: open_sides(model) for name, model in parts().items()}
    if graph in split:
        split[graph] = parts()[graph]
    folder = write_split_bundle(tmp_path / "b", split, models=whole, size_divisibility=4)
    with pytest.raises(BundleError, match=rf"{graph}.onnx: input .* must be dynamic"):
        engine(load_bundle(folder))
