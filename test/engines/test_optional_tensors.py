"""What a bundle's graphs may have beside the required: every engine passes it on, none needs it."""

import numpy as np
import pytest

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.engines.base import EngineOptions, all_logits
from aopsam_ros.engines.onnxruntime import OnnxRuntimeEngine
from aopsam_ros.engines.verification import answers, sample_inputs
from aopsam_ros.errors import BundleError, InferenceError
from support import tiny_bundle
from support.tiny_bundle import (
    ATTENTION,
    ATTENTION_CELL,
    IMAGE,
    MAP,
    PREDICTED_IOU,
    SIZE,
    TOLERANCES,
    edit,
    image_predictor,
    labeller,
    prompts,
    with_attention,
    with_mask_input,
    with_semantic_map,
    write_tiny_bundle,
)  # fmt: skip
from support.tiny_split import parts, write_split_bundle

POOLED = IMAGE.reshape(1, 3, MAP, 2, MAP, 2).mean((3, 5))
PROMPTS = prompts(2)
MASKS = np.random.default_rng(2).normal(size=(2, 1, MAP, MAP)).astype(np.float32)
OPTIONS = EngineOptions(threads=1, precision="fp32")


def single_mask_decoder():
    """A decoder whose first mask is SAM's single one."""
    return tiny_bundle.mask_decoder((50.0, *TOLERANCES), (0.8, *PREDICTED_IOU))


@pytest.fixture
def complete(tmp_path):
    """A bundle whose graphs have everything that is optional."""
    models = {
        "encoder": with_attention(with_semantic_map(tiny_bundle.encoder())),
        "prompt_predictor": image_predictor(),
        "mask_decoder": with_mask_input(single_mask_decoder()),
    }
    fields = {"predictor_inputs": ["image"], "attention": ATTENTION}
    return load_bundle(write_tiny_bundle(tmp_path / "b", models, **fields))


def test_a_bundle_without_them_has_none(bundle, start):
    engine = start(bundle)
    handle = engine.encode(IMAGE)
    assert engine.semantic_map(handle) is engine.attention(handle) is None
    assert engine.predict(IMAGE, handle).extent_map is None
    assert (engine.num_masks, engine.accepts_mask_input) == (3, False)
    with pytest.raises(InferenceError, match="this model's mask_decoder takes no mask_input"):
        engine.decode(handle, *PROMPTS, MASKS)
    assert engine.decode(handle, *PROMPTS).predicted_iou.shape == (2, 3)


def test_semantic_features_come_with_the_embedding(complete, start):
    engine = start(complete)
    wanted = IMAGE.reshape(1, 3, SIZE // 32, 32, SIZE // 32, 32).mean((3, 5))[:, [1, 2, 0]]
    found = engine.semantic_map(engine.encode(IMAGE))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_attention_comes_with_the_embedding(complete, start):
    engine, side = start(complete), ATTENTION["side"]
    cells = IMAGE.reshape(3, side, ATTENTION_CELL, side, ATTENTION_CELL).mean((2, 4)).reshape(3, -1)
    weights = np.exp(cells.T @ cells)
    wanted = weights / weights.sum(1, keepdims=True)
    np.testing.assert_allclose(engine.attention(engine.encode(IMAGE))[0], wanted, atol=1e-6)


def test_an_encoder_without_the_attention_that_was_promised_is_refused(tmp_path, start):
    bundle = load_bundle(write_tiny_bundle(tmp_path / "b", attention=ATTENTION))
    with pytest.raises(BundleError, match="but must be embedding, attention"):
        start(bundle)


def test_extents_come_with_the_confidence_of_a_predictor_without_embedding(complete, start):
    engine = start(complete)
    confidence, extents = engine.predict(IMAGE, engine.encode(IMAGE))
    np.testing.assert_allclose(confidence, 1 / (1 + np.exp(-POOLED[0, 0])), atol=1e-5)
    np.testing.assert_allclose(extents, [*POOLED[0], confidence], atol=1e-5)


def test_the_single_mask_is_the_first_of_four(complete, start):
    engine = start(complete)
    assert engine.num_masks == 4
    decoded = engine.decode(engine.encode(IMAGE), *PROMPTS)
    np.testing.assert_allclose(decoded.predicted_iou, [(0.8, *PREDICTED_IOU)] * 2, atol=1e-6)
    every = all_logits(decoded)
    assert every.shape == (2, 4, MAP, MAP)
    np.testing.assert_allclose(every[:, 0] - every[:, 1], 20.0 * (50.0 - 0.02), rtol=1e-3)
    one = decoded.logits(np.array([1, 0]), np.array([0, 3]))
    np.testing.assert_array_equal(one, every[[1, 0], [0, 3]])


def test_a_prompt_begins_with_a_mask(complete, start):
    engine = start(complete)
    assert engine.accepts_mask_input
    handle = engine.encode(IMAGE)
    before = all_logits(engine.decode(handle, *PROMPTS)).copy()
    after = all_logits(engine.decode(handle, *PROMPTS, MASKS))
    np.testing.assert_allclose(after - before, np.repeat(MASKS, 4, axis=1), atol=1e-2)
    with pytest.raises(InferenceError, match=r"mask_input has shape \[1, 1, 64, 64\], expected"):
        engine.decode(handle, *PROMPTS, MASKS[:1])


def test_verification_covers_them(complete, start):
    found = answers(start(complete), sample_inputs(complete))
    beside = {"semantic_map", "attention", "extent_map", "predicted_iou of 1 x 1 points and masks"}
    assert beside <= set(found)


@pytest.mark.parametrize("sizes", [tiny_bundle.CROPS, tiny_bundle.FEATURES])
def test_a_labeller_is_loaded_when_it_is_used(tmp_path, start, sizes):
    models = {"labeller": labeller(sizes["input"])}
    folder = write_tiny_bundle(tmp_path / "b", models, labeller=sizes)
    engine = start(load_bundle(folder))
    (sample,) = sample_inputs(load_bundle(folder))["labeller"]
    ((name, inputs),) = sample.items()
    wanted = inputs.mean((2, 3)) if name == "crops" else inputs[:, [2, 0, 1]]
    np.testing.assert_allclose(engine.embed_masks(inputs), wanted, rtol=1e-5)
    np.testing.assert_allclose(engine.embed_masks(inputs[1:]), wanted[1:], rtol=1e-5)
    engine.decode(engine.encode(IMAGE), *PROMPTS)  # the other graphs go on
    (folder / "labeller.onnx").write_bytes(b"")
    engine = start(load_bundle(folder))  # nobody has asked for labels yet
    with pytest.raises(BundleError, match=r"labeller\.onnx.*sha256"):
        engine.embed_masks(inputs)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labeller": None}, "labeller must be a mapping"),
        ({"labeller": {**tiny_bundle.CROPS, "input": "image"}}, "input must be crops or features"),
        ({"labeller": {"input": "crops", "input_size": 16}}, r"labeller\.embedding_size"),
        ({"labeller": {**tiny_bundle.CROPS, "input_size": 8}}, "crops has shape"),
        ({"labeller": tiny_bundle.FEATURES}, "inputs are crops, but must be features"),
    ],
)
def test_a_labeller_that_is_not_what_bundle_yaml_says_is_refused(tmp_path, changes, reason):
    folder = write_tiny_bundle(tmp_path / "b", {"labeller": labeller("crops")}, **changes)
    with pytest.raises(BundleError, match=reason):
        OnnxRuntimeEngine(load_bundle(folder), OPTIONS).embed_masks(np.zeros((1, 3, 16, 16)))


@pytest.mark.parametrize("is_per_mask", [False, True], ids=["of prompts", "of masks"])
def test_parts_of_a_decoder_may_give_four_masks(tmp_path, engine, is_per_mask):
    decoder = single_mask_decoder()
    split = parts(is_per_mask, single_mask_decoder())
    folder = write_split_bundle(tmp_path / "b", split, models={"mask_decoder": decoder})
    loaded = engine(load_bundle(folder), OPTIONS)
    decoded = loaded.decode(loaded.encode(IMAGE), *PROMPTS)
    assert loaded.num_masks == decoded.predicted_iou.shape[1] == 4
    folder = write_tiny_bundle(tmp_path / "w", {"mask_decoder": decoder})
    whole = engine(load_bundle(folder), OPTIONS)
    wanted = all_logits(whole.decode(whole.encode(IMAGE), *PROMPTS))
    np.testing.assert_allclose(all_logits(decoded), wanted, atol=1e-3)


def test_a_mask_input_takes_the_whole_decoder_where_there_are_parts(tmp_path, engine):
    decoder = with_mask_input(tiny_bundle.mask_decoder())
    folder = write_split_bundle(tmp_path / "b", models={"mask_decoder": decoder})
    loaded = engine(load_bundle(folder), OPTIONS)
    handle = loaded.encode(IMAGE)
    before = all_logits(loaded.decode(handle, *PROMPTS))
    after = all_logits(loaded.decode(handle, *PROMPTS, MASKS))
    np.testing.assert_allclose(after - before, np.repeat(MASKS, 3, axis=1), atol=1e-2)
    assert loaded.accepts_mask_input


def test_a_predictor_without_the_inputs_that_were_promised_is_refused(tmp_path):
    folder = write_tiny_bundle(tmp_path / "b", {"prompt_predictor": image_predictor()})
    with pytest.raises(BundleError, match="inputs are image, but must be image, embedding"):
        OnnxRuntimeEngine(load_bundle(folder), OPTIONS)


def test_a_bundle_may_have_no_predictor(tmp_path, start):
    folder = write_tiny_bundle(tmp_path / "b")
    edit(folder, lambda fields: fields["graphs"].pop("prompt_predictor"))
    engine, samples = start(load_bundle(folder)), sample_inputs(load_bundle(folder))
    assert not engine.has_predictor and "prompt_predictor" not in samples
    assert "confidence_map" not in answers(engine, samples)
