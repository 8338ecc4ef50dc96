"""What graphs must take and give, and what they give at a run."""

import numpy as np
import pytest

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.bundle.signatures import signature_of
from aopsam_ros.engines.engine import check_output
from aopsam_ros.errors import BundleError, InferenceError
from support.tiny_bundle import MAP, SIZE, write_tiny_bundle


@pytest.fixture
def bundle(tiny_folder):
    return load_bundle(tiny_folder)


FLOAT, IMAGES = "tensor(float)", {"image": ("tensor(float)", [1, 3, SIZE, SIZE])}
POINTS = {"point_coords": (FLOAT, ["N", "K", 2]), "point_labels": (FLOAT, ["N", "K"])}


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ([1, "D", 4, 4], "output semantic_map must say how many channels"),
        ([1, 3, 8, 8], "output semantic_map has shape"),
        ([3, 4, 4], "output semantic_map has shape"),
    ],
)
def test_semantic_features_of_other_shapes_are_refused(bundle, sizes, reason):
    outputs = {"embedding": (FLOAT, [1, 3, MAP, MAP]), "semantic_map": (FLOAT, sizes)}
    with pytest.raises(BundleError, match=reason):
        signature_of(bundle, "encoder", "e.onnx", IMAGES, outputs)


def test_a_mask_input_without_has_mask_input_is_refused(bundle):
    embedding = {"embedding": (FLOAT, [1, 3, MAP, MAP])}
    inputs = {**embedding, **POINTS, "mask_input": (FLOAT, ["N", 1, MAP, MAP])}
    outputs = {"low_res_logits": (FLOAT, ["N", 3, MAP, MAP]), "predicted_iou": (FLOAT, ["N", 3])}
    with pytest.raises(BundleError, match=r"must be embedding, .*, mask_input, has_mask_input"):
        signature_of(bundle, "mask_decoder", "d.onnx", inputs, outputs)


@pytest.mark.parametrize("inputs", [[], ["embeddings"], "image", [["image"]]])
def test_unknown_inputs_of_the_predictor_are_refused(tmp_path, inputs):
    with pytest.raises(BundleError, match="predictor_inputs must be a list of image and embedding"):
        load_bundle(write_tiny_bundle(tmp_path / "b", predictor_inputs=inputs))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_bad_value_among_many_is_noticed(value):
    array = np.ones((4, 3, 16, 16), np.float32)
    check_output("x", array, (None, 3, 16, 16))
    array[2, 1, 5, 7] = value
    with pytest.raises(InferenceError, match="not finite"):
        check_output("x", array, (None, 3, 16, 16))


def test_sums_do_not_hide_values():
    check_output("x", np.full((100,), 3e38, np.float32), (100,))
    with pytest.raises(InferenceError):
        check_output("x", np.float32([np.inf, -np.inf]), (2,))


@pytest.mark.parametrize("shape", [(2, 3), (3,), (2, 2, 1), ()])
def test_output_of_another_shape_is_an_inference_error(shape):
    with pytest.raises(InferenceError, match=r"expected \[None, 2\]"):
        check_output("x", np.zeros(shape, np.float32), (None, 2))
