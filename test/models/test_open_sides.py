"""MobileSAM on images that are not square: attention in windows, graphs, decoder and masks."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from aopsam_ros.bundle.loading import load_bundle  # noqa: E402
from aopsam_ros.engines.base import EngineOptions, all_logits  # noqa: E402
from aopsam_ros.engines.onnxruntime import OnnxRuntimeEngine  # noqa: E402
from aopsam_ros.errors import BundleError  # noqa: E402
from aopsam_ros.models.export import export_bundle, mobile_sam_parts  # noqa: E402
from aopsam_ros.models.mobile_sam.model import MobileSam  # noqa: E402
from aopsam_ros.models.mobile_sam.split import split_mobile_sam  # noqa: E402
from aopsam_ros.models.mobile_sam.tiny_vit import Block  # noqa: E402
from support.authors.mobile_sam_cases import load_random_weights  # noqa: E402
from support.random_weights import random_tensor, uniform  # noqa: E402

SIZE = 64
WIDTH, HEADS, WINDOW = 6, 2, 3
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def block():
    block = Block(WIDTH, HEADS, WINDOW).double().eval()
    with torch.no_grad():
        for name, value in block.named_parameters():
            value.copy_(torch.from_numpy(random_tensor(name, tuple(value.shape))))
    return block


def in_window(attention, cells):
    """Attend among the cells of a window, `[rows, columns, C]`, one by one."""
    tokens = attention.norm(cells).flatten(0, 1)
    places = [(row, column) for row in range(WINDOW) for column in range(WINDOW)]
    seen = []
    for head in attention.qkv(tokens).reshape(len(tokens), HEADS, 3, -1).unbind(1):
        query, key, value = head.unbind(1)
        for here, (row, column) in enumerate(places):
            scores = torch.stack([
                query[here] @ key[there] / len(query[here]) ** 0.5
                + attention.attention_biases[len(seen) // len(places)][
                    abs(row - other_row) * WINDOW + abs(column - other_column)
                ]
                for there, (other_row, other_column) in enumerate(places)
            ])  # fmt: skip
            seen.append(torch.softmax(scores, 0) @ value)
    by_head = torch.stack(seen).reshape(HEADS, len(places), -1)
    return attention.proj(by_head.transpose(0, 1).flatten(1)).reshape(cells.shape)


@torch.no_grad()
@pytest.mark.parametrize("sides", [(3, 3), (4, 8), (7, 3), (2, 5)])
def test_windows_are_cut_from_the_top_left_and_filled_with_zeros(block, sides):
    x = torch.from_numpy(uniform(f"cells {sides}", (2, *sides, WIDTH), -1.0, 1.0)).double()
    wanted = torch.zeros_like(x)
    for image, top, left in np.ndindex(2, sides[0], sides[1]):
        if top % WINDOW or left % WINDOW:
            continue
        part = x[image, top : top + WINDOW, left : left + WINDOW]
        cells = torch.zeros(WINDOW, WINDOW, WIDTH).double()
        cells[: part.shape[0], : part.shape[1]] = part
        found = in_window(block.attn, cells)[: part.shape[0], : part.shape[1]]
        wanted[image, top : top + WINDOW, left : left + WINDOW] = found
    assert wanted.std() > 0.05
    mixed = block.local_conv((x + wanted).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(block(x), mixed + block.mlp(mixed))


def plain_decoder(model, embedding, coords, labels):
    """Decode on the first cells of the square: SAM's layers, on their own cells' positions."""
    encoder, decoder = model.prompt_encoder, model.mask_decoder
    rows, columns = embedding.shape[2:]
    side = SIZE // 16
    position = encoder.image_position().reshape(side, side, -1)[:rows, :columns].flatten(0, 1)
    cells = embedding.flatten(2).transpose(1, 2) + encoder.no_mask_embed.weight
    tokens, absent = decoder.tokens(*encoder(coords, labels))
    tokens, image = decoder.transformer(tokens, cells, position, absent[:, None, None])
    first, norm, gelu, second, _ = decoder.output_upscaling
    fine = first(image.transpose(1, 2).unflatten(2, (rows, columns)))
    fine = gelu(norm(fine.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
    fine = gelu(second(fine))
    perceptrons = decoder.output_hypernetworks_mlps
    weights = [perceptron(tokens[:, 1 + k]) for k, perceptron in enumerate(perceptrons)]
    logits = torch.einsum("nkc,nchw->nkhw", torch.stack(weights, 1), fine)
    return logits, decoder.iou_prediction_head(tokens[:, 0])


def asked(dtype=torch.float32):
    coords = torch.from_numpy(uniform("open coords", (3, 2, 2), -5.0, SIZE + 5.0))
    labels = torch.tensor([[1.0, -1.0], [1.0, 0.0], [2.0, 3.0]])
    return coords.to(dtype), labels.to(dtype)


@torch.no_grad()
@pytest.mark.parametrize("sides", [(4, 4), (3, 4), (4, 1), (2, 3)])
def test_a_part_of_the_square_is_decoded_where_it_lies(sides):
    copy = load_random_weights(MobileSam(SIZE)).double()
    embedding = torch.from_numpy(uniform("part", (1, 256, *sides), -2.0, 2.0)).double()
    wanted = plain_decoder(copy, embedding, *asked(torch.float64))
    split = split_mobile_sam(copy)
    frame = split.encode_frame(embedding)
    points = dict(zip(("coords", "labels"), asked(torch.float64), strict=True))
    iou, weights = split.decode_prompts(frame, points)
    logits = split.render_masks(frame, weights)
    for found, expected in zip((logits, iou), wanted, strict=True):
        assert expected.std() > 0.05
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


class Frozen(torch.nn.Module):
    """An encoder whose graph keeps a number of the size that it was traced with."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, image):
        return self.encoder(image) * float(image.shape[2])


def test_graphs_for_one_size_are_refused(model, tmp_path):
    facts = {"name": "n", "version": "1", "licence": "-", "defaults": {}, "provenance": {}}
    parts = replace(mobile_sam_parts(model), encoder=Frozen(model.image_encoder))
    with pytest.raises(BundleError, match=r"encoder\.onnx: differs from torch"):
        export_bundle(parts, tmp_path / "b", facts)


@pytest.fixture(scope="module")
def runtime(exported):
    return OnnxRuntimeEngine(load_bundle(exported.folder), EngineOptions(threads=1))


@torch.no_grad()
@pytest.mark.parametrize("valid", [(64, 64), (36, 64), (64, 20), (16, 33)])
def test_every_graph_in_the_runtime_equals_torch(runtime, model, predictor, valid):
    """None of these sizes but the square is one that export compared."""
    rows, columns = (-(-side // 16) * 16 for side in valid)
    image = uniform("open image", (1, 3, SIZE, SIZE), -2.0, 2.0)
    part = torch.from_numpy(image[:, :, :rows, :columns])
    embedding = model.image_encoder(part)
    logits, iou = plain_decoder(model, embedding, *asked())
    handle = runtime.encode(image, valid)
    decoded = runtime.decode(handle, *(value.numpy() for value in asked()))
    found = (
        runtime.embedding(handle)[:, :, : rows // 16, : columns // 16],
        runtime.predict(image, handle).confidence_map[: rows // 4, : columns // 4],
        all_logits(decoded)[:, :, : rows // 4, : columns // 4],
        decoded.predicted_iou,
    )
    wanted = embedding, predictor(part, embedding)[0][0, 0], logits, iou
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b.numpy(), **CLOSE)
