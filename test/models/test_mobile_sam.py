"""MobileSAM equals its published implementation: by stored values, and beside it where it is."""

from functools import partial

import numpy as np
import pytest

from support.random_weights import published_shapes

torch = pytest.importorskip("torch")

from aopsam_ros.errors import InputError  # noqa: E402
from aopsam_ros.models.loading import load_mobile_sam  # noqa: E402
from aopsam_ros.models.mobile_sam.model import MobileSam, PointDecoder  # noqa: E402
from support.authors import mobile_sam_cases as cases  # noqa: E402

# Activations are about 1; another order of summation changes them by about 1e-5.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def full():
    return cases.load_random_weights(MobileSam())


@pytest.fixture(scope="module")
def answers(full):
    with torch.no_grad():
        embedding = full.image_encoder(cases.image())
        return {"embedding": embedding, **cases.our_decoder_answers(full)}


@pytest.fixture(scope="module")
def official():
    package = pytest.importorskip("mobile_sam", exc_type=ImportError)
    return cases.load_random_weights(package.sam_model_registry["vit_t"]())


def test_tensors_are_the_published_ones():
    state = MobileSam().state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == published_shapes()
    assert len(state) == 439


def test_the_stored_values_are_given(answers):
    assert answers["embedding"].shape == (1, 256, 64, 64)
    with np.load(cases.REFERENCE) as stored:
        assert set(stored) == set(answers)
        for name, answer in answers.items():
            np.testing.assert_allclose(
                cases.sampled(name, answer), stored[name], **CLOSE, err_msg=name
            )
        # What is compared varies: no answer is constant, and they differ from each other.
        assert min(stored[name].std() for name in stored) > 0.05


def test_the_published_model_answers_the_same(official, answers):
    with torch.no_grad():
        expected = {"embedding": official.image_encoder(cases.image())}
        expected |= cases.official_decoder_answers(official)
    assert set(expected) == set(answers)
    for name, answer in answers.items():
        np.testing.assert_allclose(answer.numpy(), expected[name].numpy(), **CLOSE, err_msg=name)


def test_attention_biases_are_never_stale(model):
    image = cases.tensor("small image", (1, 3, 64, 64))
    with torch.no_grad():
        before = model.image_encoder(image)
        changed = cases.load_random_weights(MobileSam(64))
        for name, parameter in changed.named_parameters():
            if name.endswith("attention_biases"):
                parameter.copy_(2.0 * parameter)
        assert not torch.allclose(before, changed.image_encoder(image), atol=1e-3)
        changed.load_state_dict(model.state_dict())  # without a call of eval() after it
        assert torch.equal(before, changed.image_encoder(image))


MIXED_LABELS = torch.tensor(
    [[1.0, -1, -1, -1], [2, 3, -1, -1], [1, 0, 1, -1], [2, 3, 1, 0], [0, -1, -1, -1]]
)


@torch.no_grad()
def test_padding_and_neighbours_do_not_change_an_answer(model):
    seen = cases.tensor("small embedding", (1, 256, 4, 4), -2.0, 2.0)
    decode = partial(PointDecoder(model).eval(), seen)
    coords = cases.tensor("mixed", (5, 4, 2), 0.0, 64.0)
    logits, iou = decode(coords, MIXED_LABELS)
    for row, labels in enumerate(MIXED_LABELS):
        count = int((labels >= 0).sum())
        alone, score = decode(coords[row : row + 1, :count], labels[None, :count])
        torch.testing.assert_close(logits[row : row + 1], alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(iou[row : row + 1], score, rtol=1e-4, atol=1e-5)


TOKEN, NECK, BIAS = (
    "mask_decoder.iou_token.weight",
    "image_encoder.neck.0.weight",
    "image_encoder.neck.1.bias",
)
ONE_WEIGHT = torch.zeros(256, 320, 1, 1)
SHAPE_OR_TYPE = rf"1 is of another shape or type, such as {NECK}"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (TOKEN, None, rf"1 is missing, such as {TOKEN}"),
        ("mask_decoder.extra", torch.zeros(1), r"1 is unknown, such as mask_decoder\.extra"),
        (7, torch.zeros(1), "1 is unknown, such as 7"),
        (NECK, ONE_WEIGHT[:, :, 0, 0], SHAPE_OR_TYPE),
        (NECK, 3, SHAPE_OR_TYPE),
        (NECK, ONE_WEIGHT.int(), SHAPE_OR_TYPE),
        (NECK, ONE_WEIGHT.to(torch.complex64), SHAPE_OR_TYPE),
        (NECK, ONE_WEIGHT.to_sparse(), SHAPE_OR_TYPE),
        (NECK, ONE_WEIGHT.to("meta"), SHAPE_OR_TYPE),
        (BIAS, torch.full((256,), 1e300, dtype=torch.float64), rf"1 is not finite, such as {BIAS}"),
        (BIAS, torch.full((256,), float("nan")), rf"1 is not finite, such as {BIAS}"),
    ],
)
def test_other_checkpoints_are_refused(tmp_path, model, name, value, reason):
    state = {**model.state_dict(), name: value}
    if value is None:
        del state[name]
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=f"of 439 tensors, {reason}") as raised:
        load_mobile_sam(tmp_path / "checkpoint.pt")
    assert "checkpoint.pt" in str(raised.value) and "\n" not in str(raised.value)
