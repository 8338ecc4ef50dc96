"""The decoder of `nano`: prompts read the image, nothing is written into it.

SAM's decoder lets every prompt change a copy of the image's features, which is most of its work.
Here the image is projected once a frame and only read, as in Mask2Former (arXiv 2112.01527), and a
mask is drawn by a tiny network of its own over a map that all prompts share, as in CondInst (arXiv
2003.05664): its weights, the mask's *code*, are what a prompt is decoded to.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)
from torch import Tensor, nn

from aopsam_ros.models.nano_drawing import (
    CODE,
    DETAIL_CHANNELS,
    cell_centres,
    planes,
    render_masks,
    to_absolute,
)

STRIDE = 16
FEATURE_CHANNELS = 128  # what a prompt is compared with; ASF filtering reads these
DETAIL_FACTOR = 4  # from stride 16 to stride 4
WIDTH = 128
HEADS = 4
BLOCKS = 3
MASKS = 3
LABELS = 5  # padding, background, foreground, first and second box corner
# Coordinates are divided by it; see `DRAWING_UNIT`.
POSITION_UNIT = 512.0


class Frame(NamedTuple):
    """What all prompts of an image share.

    Features `[B, 128, h, w]`; each block's keys `[B, 4, 32, h w]` and values `[B, 4, h w, 32]`; the
    planes that masks are drawn with, `coarse` `[B, 19, h, w]` and `fine` `[B, 19, 4h, 4w]`.
    """

    features: Tensor
    key_0: Tensor
    value_0: Tensor
    key_1: Tensor
    value_1: Tensor
    key_2: Tensor
    value_2: Tensor
    coarse: Tensor
    fine: Tensor

    def of_block(self, number: int) -> tuple[Tensor, Tensor]:
        """Return a block's keys and values."""
        first = 1 + 2 * number
        return self[first], self[first + 1]


class Attention(nn.Module):
    """Multi-head attention of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def project(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Map what is attended to, `[A, K, 128]` twice, to `[A, 4, 32, K]` and `[A, 4, K, 32]`."""
        return _split_heads(self.key(key)).transpose(-1, -2), _split_heads(self.value(value))

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend from `[A, Q, 128]` to what `project` made."""
        q = _split_heads(self.query(query)) * (WIDTH // HEADS) ** -0.5
        read = torch.softmax(q @ key, -1) @ value
        return self.out(read.transpose(1, 2).flatten(2))


def _split_heads(x: Tensor) -> Tensor:
    """Map `[A, T, H * d]` to `[A, H, T, d]`."""
    # reshape, not unflatten: traced, the latter would freeze the number of prompts.
    return x.reshape(x.shape[0], x.shape[1], HEADS, WIDTH // HEADS).transpose(1, 2)


class TokenBlock(nn.Module):
    """Tokens of a prompt talk to each other, read the image, and think."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attention = Attention()
        self.read_image = Attention()
        self.mlp = _mlp(WIDTH, WIDTH, 2 * WIDTH)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))

    def forward(self, tokens: Tensor, position: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Update tokens `[B, N, T, 128]`; the image's `key` and `value` are read by all of them."""
        batch, _, size, _ = tokens.shape
        flat, where = tokens.flatten(0, 1), position.flatten(0, 1)
        placed = flat + where
        flat = self.norms[0](
            flat + self.self_attention(placed, *self.self_attention.project(placed, flat))
        )
        asking = (flat + where).reshape(batch, -1, WIDTH)
        read = self.read_image(asking, key, value).reshape(-1, size, WIDTH)
        flat = self.norms[1](flat + read)
        flat = self.norms[2](flat + self.mlp(flat))
        return flat.reshape(batch, -1, size, WIDTH)


class NanoMaskDecoder(nn.Module):
    """Prompts and embedding to three low-resolution masks with their predicted IoU."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(2, WIDTH // 2))
        self.label_embedding = nn.Embedding(LABELS, WIDTH)
        self.output_tokens = nn.Embedding(1 + MASKS, WIDTH)
        self.image_in = nn.Linear(FEATURE_CHANNELS, WIDTH)
        self.image_position = nn.Linear(WIDTH, WIDTH)
        self.point_features = nn.Linear(FEATURE_CHANNELS, WIDTH)
        self.point_detail = nn.Linear(DETAIL_CHANNELS, WIDTH)
        self.blocks = nn.ModuleList(TokenBlock() for _ in range(BLOCKS))
        self.code = _mlp(WIDTH, sum(CODE), 2 * WIDTH)
        self.iou_head = _mlp(2 * WIDTH + 3, 1, WIDTH)

    def forward(self, embedding: Tensor, coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Decode `N` prompts of `K` points for each of `B` images.

        Args:
            embedding: `[B, 384, h, w]`.
            coords: `[B, N, K, 2]`, x and y in pixels of the encoder's input image.
            labels: `[B, N, K]`: 1 foreground, 0 background, 2 and 3 box corners, -1 padding.

        Returns:
            Logits `[B, N, 3, 4h, 4w]` and predicted IoU `[B, N, 3]` in 0-1.
        """
        frame = self.encode_frame(embedding)
        codes, iou = self.decode(frame, coords, labels)
        logits = render_masks(frame.fine, codes.flatten(1, 2))
        height, width = logits.shape[-2:]
        return logits.reshape(len(embedding), -1, MASKS, height, width), iou

    def encode_frame(self, embedding: Tensor) -> Frame:
        """Make what all prompts share of embeddings `[B, 384, h, w]`."""
        features, packed = embedding[:, :FEATURE_CHANNELS], embedding[:, FEATURE_CHANNELS:]
        height, width = features.shape[-2:]
        cells = self.image_position(self._encode(cell_centres(height, width, STRIDE, embedding)))
        image = self.image_in(features.flatten(2).transpose(1, 2))
        projected = [block.read_image.project(image + cells, image) for block in self.blocks]
        # The coarse map is the mean of the detail map in every cell of the embedding.
        cell = packed.reshape(-1, DETAIL_CHANNELS, DETAIL_FACTOR**2, height, width)
        coarse = planes(cell.mean(2), STRIDE)
        fine = planes(F.pixel_shuffle(packed, DETAIL_FACTOR), STRIDE // DETAIL_FACTOR)
        return Frame._make([features, *(x for pair in projected for x in pair), coarse, fine])

    def decode(self, frame: Frame, coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Find the masks' codes, without drawing them.

        Returns:
            Codes `[B, N, 3, 224]` and predicted IoU `[B, N, 3]` in 0-1.
        """
        coords = coords + 0.5  # SAM's convention: the centre of the pixel
        tokens, position = self._tokens(frame, coords, labels)
        for number, block in enumerate(self.blocks):
            tokens = block(tokens, position, *frame.of_block(number))
        found = tokens[:, :, 1 : 1 + MASKS]
        codes = to_absolute(self.code(found), _anchor(coords, labels))
        return codes, self._score(tokens[:, :, :1], found, frame.coarse, codes)

    def _encode(self, coords: Tensor) -> Tensor:
        """Random Fourier features of pixel coordinates `[..., 2]`, as in SAM's prompt encoder."""
        phase = (coords * (2.0 / POSITION_UNIT) - 1.0) @ self.frequencies * (2.0 * math.pi)
        return torch.cat([phase.sin(), phase.cos()], -1)

    def _tokens(self, frame: Frame, coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        is_point = (labels >= 0).to(coords.dtype).unsqueeze(-1)
        detail = _sample(frame.fine, coords, STRIDE // DETAIL_FACTOR)[..., :DETAIL_CHANNELS]
        seen = self.point_features(_sample(frame.features, coords, STRIDE))
        seen = seen + self.point_detail(detail)
        position = self._encode(coords) * is_point
        prompt = self.label_embedding((labels + 1).long()) + (seen + position) * is_point
        batch, count = coords.shape[:2]
        output = self.output_tokens.weight.expand(batch, count, -1, -1)
        none = torch.zeros_like(output)
        return torch.cat([output, prompt], 2), torch.cat([none, position], 2)

    def _score(self, iou_token: Tensor, found: Tensor, coarse: Tensor, codes: Tensor) -> Tensor:
        """Predict IoU from the tokens and from how decided the masks look, drawn coarsely."""
        # Detached: the masks must not change to improve the score.
        seen = codes.detach() if self.training else codes
        logits = render_masks(coarse, seen.flatten(1, 2))
        statistics = _mask_statistics(logits).reshape(*found.shape[:2], MASKS, -1)
        token = iou_token.expand(-1, -1, MASKS, -1)
        return torch.sigmoid(self.iou_head(torch.cat([token, found, statistics], -1)).squeeze(-1))


def _mlp(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def _anchor(coords: Tensor, labels: Tensor) -> Tensor:
    """Mean `[B, N, 2]` of a prompt's foreground points, or its box's centre."""
    counted = (labels >= 1).to(coords.dtype).unsqueeze(-1)
    return (coords * counted).sum(2) / counted.sum(2).clamp(min=1.0)


def _sample(feature_map: Tensor, coords: Tensor, stride: int) -> Tensor:
    """Sample `[B, C, h, w]` bilinearly at pixel coordinates `[B, N, K, 2]` → `[B, N, K, C]`.

    Written as two small matrix products: every runtime has them, and none of GridSample's
    differences between runtimes remain.
    """
    height, width = feature_map.shape[-2:]
    across = _hat(coords[..., 0] / stride - 0.5, width)
    down = _hat(coords[..., 1] / stride - 0.5, height)
    batch, count, points = coords.shape[:3]
    weights = (down.unsqueeze(-1) * across.unsqueeze(-2)).reshape(batch, count * points, -1)
    sampled = weights @ feature_map.flatten(2).transpose(1, 2)
    return sampled.reshape(batch, count, points, -1)


def _hat(position: Tensor, size: int) -> Tensor:
    """Linear interpolation weights `[..., size]` of positions in cells, clamped to the edge."""
    cells = torch.arange(size, dtype=position.dtype, device=position.device)
    return F.relu(1.0 - (position.clamp(0, size - 1).unsqueeze(-1) - cells).abs())


def _mask_statistics(logits: Tensor) -> Tensor:
    """Describe masks `[..., H, W]` by size, mean confidence inside and blur of the outline."""
    probability = torch.sigmoid(logits).flatten(-2)
    inside = (probability > 0.5).to(logits.dtype)
    area = inside.sum(-1)
    confidence = (probability * inside).sum(-1) / (area + 1.0)
    unsure = 4.0 * (probability * (1.0 - probability)).sum(-1) / (area + 1.0)
    size = torch.log(area + 1.0) / 10.0
    return torch.stack([size, confidence, unsure.clamp(max=4.0)], -1)
