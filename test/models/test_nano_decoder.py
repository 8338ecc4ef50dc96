"""The decoder of nano against plain loops and torch's own operators."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812  (the field's name for it)

from aopsam_ros.models import nano_drawing  # noqa: E402
from aopsam_ros.models.nano import EMBEDDING_CHANNELS  # noqa: E402
from aopsam_ros.models.nano_decoder import (  # noqa: E402
    MaskInput,
    NanoMaskDecoder,
    box_region,
    mask_statistics,
    sample_bilinear,
)
from aopsam_ros.models.nano_drawing import (  # noqa: E402
    COORDINATE_UNIT,
    DETAIL_CHANNELS,
    HIDDEN,
    PLANES,
    WEIGHT_SIZES,
)

SIDE = 6  # of the embedding, in cells of 16 pixels


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return NanoMaskDecoder().eval()


def embedding(batch=1):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, EMBEDDING_CHANNELS, SIDE, SIDE, generator=generator)


def prompts(batch, count, points):
    generator = torch.Generator().manual_seed(2)
    coords = torch.rand(batch, count, points, 2, generator=generator) * 16 * SIDE
    labels = torch.randint(-1, 4, (batch, count, points), generator=generator).float()
    return coords, labels


@torch.no_grad()
def test_images_and_prompts_do_not_know_of_each_other(decoder):
    images, (coords, labels) = embedding(2), prompts(2, 3, 2)
    together = decoder(images, coords, labels)
    for b, i in np.ndindex(2, 3):
        alone = decoder(images[b, None], coords[b, None, i, None], labels[b, None, i, None])
        torch.testing.assert_close(alone[0][0, 0], together[0][b, i], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(alone[1][0, 0], together[1][b, i], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_mask_is_drawn_by_its_own_network(decoder):
    """Each pixel by itself: two hidden layers of ReLU over details, x and y."""
    packed, weights = embedding(), torch.randn(1, 2, sum(WEIGHT_SIZES))
    drawn = nano_drawing.render_masks(decoder.encode_frame(packed).fine, weights)[0]
    detail = F.pixel_shuffle(packed[0, -DETAIL_CHANNELS * 16 :], 4)
    for mask, (y, x) in [(0, (0, 0)), (1, (5, 17)), (1, (23, 2))]:
        first, biases, second, last = weights[0, mask].split(WEIGHT_SIZES)
        place = torch.tensor([4 * x + 2.0, 4 * y + 2.0]) / COORDINATE_UNIT
        seen = torch.cat([detail[:, y, x], place])
        hidden = F.relu(first.reshape(HIDDEN, PLANES) @ seen + biases)
        wanted = last @ F.relu(second.reshape(HIDDEN, HIDDEN) @ hidden)
        torch.testing.assert_close(drawn[mask, y, x], wanted, atol=1e-4, rtol=1e-4)


def render_even(weights, anchor):
    """Draw a mask on a map that is even, with weights relative to a prompt."""
    even = nano_drawing.input_planes(torch.full((1, DETAIL_CHANNELS, 24, 24), 0.5), 4)
    place, scale = torch.tensor([[anchor]]), torch.ones(1, 1, 2)
    absolute = nano_drawing.to_absolute(weights, place, scale)
    return nano_drawing.render_masks(even, absolute[:, :, 0])[0, 0]


def test_weights_mean_distances_from_the_prompt():
    """Moving the prompt by whole cells moves what is drawn on an even map by as much."""
    weights = torch.randn(1, 1, 1, sum(WEIGHT_SIZES), generator=torch.Generator().manual_seed(3))
    before = render_even(weights, [20.0, 40.0])
    after = render_even(weights, [20.0 + 3 * 4, 40.0 + 2 * 4])
    torch.testing.assert_close(after[2:, 3:], before[:-2, :-3], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_box_says_where_to_look():
    coords = torch.tensor([[[[0.0, 0.0], [31.5, 15.5]]]]) - 0.5  # two cells, at their edges
    labels = torch.tensor([[[2.0, 3.0]]])
    region = box_region(coords + 0.5, labels, torch.zeros(1, 1, SIDE, SIDE))
    expected = torch.full((SIDE, SIDE), -1.0)
    expected[0, :2] = torch.tensor([15.5 / 16 * 1, 15.5 / 16 * 15.5 / 16]) * 2 - 1
    torch.testing.assert_close(region.reshape(SIDE, SIDE), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_mask_input_counts_only_where_a_prompt_has_one(decoder):
    coords, labels = prompts(1, 2, 1)
    masks = torch.randn(1, 2, 4 * SIDE, 4 * SIDE, generator=torch.Generator().manual_seed(5)) * 5
    plain, _ = decoder(embedding(), coords, labels)
    present = torch.tensor([[0.0, 1.0]])
    found, _ = decoder(embedding(), coords, labels, MaskInput(masks, present))
    torch.testing.assert_close(found[0, 0], plain[0, 0], atol=1e-4, rtol=1e-4)
    assert (found[0, 1] - plain[0, 1]).abs().max() > 0.1


@pytest.mark.parametrize("stride", [4, 16])
def test_sampling_is_bilinear_and_clamped(stride):
    generator = torch.Generator().manual_seed(4)
    feature_map = torch.randn(1, 5, 7, 9, generator=generator)
    inside = torch.rand(1, 6, 2, 2, generator=generator) * torch.tensor([9.0, 7.0]) * stride
    coords = torch.cat([inside, torch.tensor([[[[-50.0, 3.0], [999.0, 999.0]]]])], 1)
    size = torch.tensor([9.0, 7.0]) * stride
    wanted = F.grid_sample(
        feature_map, coords / size * 2 - 1, align_corners=False, padding_mode="border"
    )
    found = sample_bilinear(feature_map, coords, stride)
    torch.testing.assert_close(found, wanted.permute(0, 2, 3, 1), atol=1e-5, rtol=1e-5)


def test_statistics_of_a_mask_drawn_by_hand():
    logits = torch.full((1, 1, 4, 4), -30.0)
    logits[0, 0, :2, :2] = 30.0  # four pixels, certain
    size, confidence, unsure = mask_statistics(logits)[0, 0]
    assert size == pytest.approx(torch.log(torch.tensor(5.0)).item() / 10)
    assert confidence == pytest.approx(4 / 5)
    assert unsure == pytest.approx(0.0, abs=1e-6)


def test_the_score_does_not_shape_the_masks():
    decoder = NanoMaskDecoder().train()
    found = []
    decoder.mask_weights.register_forward_hook(
        lambda _module, _inputs, out: found.append(out) or out.retain_grad()
    )
    _, iou = decoder(embedding(), *prompts(1, 2, 1))
    iou.sum().backward()
    assert found[0].grad is None or not found[0].grad.any()
