"""The decoder of `nano`: prompts read the image, nothing is written into it.

SAM's decoder lets every prompt change a copy of the image's features, which is most of its work.
Here the image is projected once a frame and only read, as in Mask2Former (arXiv 2112.01527), and a
mask is drawn by a tiny network of its own over a map that all prompts share, as in CondInst (arXiv
2003.05664): a prompt is decoded to the weights of its masks' networks.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)
from torch import Tensor, nn

from aopsam_ros.models.nano_drawing import (
    COORDINATE_UNIT,
    DETAIL_CHANNELS,
    WEIGHT_SIZES,
    cell_centres,
    input_planes,
    render_masks,
    to_absolute,
)

STRIDE = 16
FEATURE_CHANNELS = 128  # what a prompt is compared with; ASF filtering reads these
DETAIL_FACTOR = 4  # from stride 16 to stride 4
WIDTH = 128
HEADS = 4
BLOCKS = 3
MASKS = 4  # SAM's single mask of an unambiguous prompt, then the three of an ambiguous one
LABELS = 5  # padding, background, foreground, first and second box corner
POSITION_UNIT = 512.0  # coordinates are divided by it; see `COORDINATE_UNIT`
LARGEST_LOGIT = 8.0  # of a mask input: beyond it, a mask is as sure as can be


class EncodedFrame(NamedTuple):
    """What all prompts of an image share.

    Features `[B, 128, h, w]`; each block's keys `[B, 4, 32, h w]` and values `[B, 4, h w, 32]`; the
    planes that masks are drawn on, `coarse` `[B, 19, h, w]` and `fine` `[B, 19, 4h, 4w]`.
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


class MaskInput(NamedTuple):
    """A mask to start from, for each of N prompts.

    `logits` `[B, N, 4h, 4w]`; `present` `[B, N]`, 1 where a prompt has one, 0 where it has none.
    """

    logits: Tensor
    present: Tensor


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

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Attend from `[A, Q, 128]` to what `project` made.

        `bias` `[A, 4, N, K]` is added to the scores of N groups of as many queries each.
        """
        q = _split_heads(self.query(query)) * (WIDTH // HEADS) ** -0.5
        scores = q @ key
        if bias is not None:
            grouped = scores.reshape(*bias.shape[:3], -1, bias.shape[3]) + bias.unsqueeze(3)
            scores = grouped.flatten(2, 3)
        read = torch.softmax(scores, -1) @ value
        return self.out(read.transpose(1, 2).flatten(2))


def _split_heads(x: Tensor) -> Tensor:
    """Map `[A, T, H * d]` to `[A, H, T, d]`."""
    # reshape, not unflatten: traced, the latter would freeze the number of prompts.
    return x.reshape(x.shape[0], x.shape[1], HEADS, WIDTH // HEADS).transpose(1, 2)


class TokenBlock(nn.Module):
    """Tokens of a prompt attend to each other, read the image, and are updated by an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attention = Attention()
        self.read_image = Attention()
        self.region_gain = nn.Parameter(torch.linspace(0.5, 2.0, HEADS))
        self.mlp = _mlp(WIDTH, WIDTH, 2 * WIDTH)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))

    def forward(
        self, tokens: Tensor, position: Tensor, key: Tensor, value: Tensor, region: Tensor
    ) -> Tensor:
        """Update the tokens of N prompts.

        Args:
            tokens: `[B, N, T, 128]`.
            position: likewise, added where tokens are compared.
            key: of the image, `[B, 4, 32, h w]`.
            value: of the image, `[B, 4, h w, 32]`.
            region: `[B, N, h w]`, where in the image to look: 1 inside, -1 outside, 0 unknown.
        """
        batch, _, size, _ = tokens.shape
        flat, where = tokens.flatten(0, 1), position.flatten(0, 1)
        placed = flat + where
        flat = self.norms[0](
            flat + self.self_attention(placed, *self.self_attention.project(placed, flat))
        )
        query = (flat + where).reshape(batch, -1, WIDTH)
        bias = region.unsqueeze(1) * self.region_gain[:, None, None]
        read = self.read_image(query, key, value, bias).reshape(-1, size, WIDTH)
        flat = self.norms[1](flat + read)
        flat = self.norms[2](flat + self.mlp(flat))
        return flat.reshape(batch, -1, size, WIDTH)


class NanoMaskDecoder(nn.Module):
    """Prompts and embedding to four low-resolution masks with their predicted IoU."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(2, WIDTH // 2))
        self.label_embedding = nn.Embedding(LABELS, WIDTH)
        self.output_tokens = nn.Embedding(1 + MASKS, WIDTH)
        self.no_mask = nn.Embedding(1, WIDTH)
        self.mask_features = nn.Linear(FEATURE_CHANNELS + 3, WIDTH)
        self.box_size = nn.Linear(4, WIDTH)
        self.image_in = nn.Linear(FEATURE_CHANNELS, WIDTH)
        self.image_position = nn.Linear(WIDTH, WIDTH)
        self.point_features = nn.Linear(FEATURE_CHANNELS, WIDTH)
        self.point_detail = nn.Linear(DETAIL_CHANNELS, WIDTH)
        self.blocks = nn.ModuleList(TokenBlock() for _ in range(BLOCKS))
        self.mask_weights = _mlp(WIDTH, sum(WEIGHT_SIZES), 2 * WIDTH)
        self.carry = nn.Linear(WIDTH, 1)  # how much of a mask input stays
        nn.init.zeros_(self.carry.weight)
        nn.init.constant_(self.carry.bias, 0.3)
        self.iou_head = _mlp(2 * WIDTH + 3, 1, WIDTH)

    def forward(
        self, embedding: Tensor, coords: Tensor, labels: Tensor, mask: MaskInput | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode `N` prompts of `K` points for each of `B` images.

        Args:
            embedding: `[B, 384, h, w]`.
            coords: `[B, N, K, 2]`, x and y in pixels of the encoder's input image.
            labels: `[B, N, K]`: 1 foreground, 0 background, 2 and 3 box corners, -1 padding.
            mask: to start from; None: no prompt has one.

        Returns:
            Logits `[B, N, 4, 4h, 4w]` and predicted IoU `[B, N, 4]` in 0-1. The first mask is for
            prompts that leave no doubt, the three others for single points.
        """
        frame = self.encode_frame(embedding)
        return self.decode_masks(frame, coords, labels, mask)

    def decode_masks(
        self,
        frame: EncodedFrame,
        coords: Tensor,
        labels: Tensor,
        mask: MaskInput | None = None,
        outputs: slice = slice(MASKS),
    ) -> tuple[Tensor, Tensor]:
        """Decode prompts of an encoded frame to some of the four masks; see `forward`."""
        found, iou_token, weights = self._update_tokens(frame, coords, labels, mask)
        found, weights = found[:, :, outputs], weights[:, :, outputs]
        logits = render_masks(frame.fine, weights.flatten(1, 2))
        logits = logits.reshape(*found.shape[:3], *logits.shape[-2:])
        if mask is not None:
            kept = self.carry(found) * mask.present[..., None, None]
            logits = logits + kept.unsqueeze(-1) * _bounded(mask).unsqueeze(2)
        return logits, self._score(iou_token, found, frame.coarse, weights)

    def decode(self, frame: EncodedFrame, coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Find the weights of the masks' networks, without drawing the masks.

        Returns:
            Weights `[B, N, 4, 224]` and predicted IoU `[B, N, 4]` in 0-1.
        """
        found, iou_token, weights = self._update_tokens(frame, coords, labels, None)
        return weights, self._score(iou_token, found, frame.coarse, weights)

    def encode_frame(self, embedding: Tensor) -> EncodedFrame:
        """Make what all prompts share of embeddings `[B, 384, h, w]`."""
        features, packed = embedding[:, :FEATURE_CHANNELS], embedding[:, FEATURE_CHANNELS:]
        height, width = features.shape[-2:]
        cells = self.image_position(self._encode(cell_centres(height, width, STRIDE, embedding)))
        image = self.image_in(features.flatten(2).transpose(1, 2))
        projected = [block.read_image.project(image + cells, image) for block in self.blocks]
        # The coarse map is the mean of the detail map in every cell of the embedding.
        cell = packed.reshape(-1, DETAIL_CHANNELS, DETAIL_FACTOR**2, height, width)
        coarse = input_planes(cell.mean(2), STRIDE)
        fine = input_planes(F.pixel_shuffle(packed, DETAIL_FACTOR), STRIDE // DETAIL_FACTOR)
        tensors = [features, *(x for pair in projected for x in pair), coarse, fine]
        return EncodedFrame._make(tensors)

    def _update_tokens(
        self, frame: EncodedFrame, coords: Tensor, labels: Tensor, mask: MaskInput | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the masks' tokens `[B, N, 4, 128]`, the IoU token and the masks' weights."""
        coords = coords + 0.5  # SAM's convention: the centre of the pixel
        region = box_region(coords, labels, frame.coarse)
        tokens, position = self._tokens(frame, coords, labels)
        if mask is None:
            start = self.no_mask.weight.expand(*coords.shape[:2], -1, -1)
        else:
            start, inside = self._mask_token(frame, mask)
            region = (region + inside).clamp(-1.0, 1.0)
        tokens = torch.cat([tokens, start], 2)
        position = torch.cat([position, torch.zeros_like(start)], 2)
        for number, block in enumerate(self.blocks):
            tokens = block(tokens, position, *frame.of_block(number), region)
        found = tokens[:, :, 1 : 1 + MASKS]
        anchor, scale = _anchor(coords, labels)
        return found, tokens[:, :, :1], to_absolute(self.mask_weights(found), anchor, scale)

    def _encode(self, coords: Tensor) -> Tensor:
        """Random Fourier features of pixel coordinates `[..., 2]`, as in SAM's prompt encoder."""
        phase = (coords * (2.0 / POSITION_UNIT) - 1.0) @ self.frequencies * (2.0 * math.pi)
        return torch.cat([phase.sin(), phase.cos()], -1)

    def _tokens(self, frame: EncodedFrame, coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        is_point = (labels >= 0).to(coords.dtype).unsqueeze(-1)
        is_corner = (labels >= 2).to(coords.dtype).unsqueeze(-1)
        detail = sample_bilinear(frame.fine, coords, STRIDE // DETAIL_FACTOR)[..., :DETAIL_CHANNELS]
        seen = self.point_features(sample_bilinear(frame.features, coords, STRIDE))
        seen = seen + self.point_detail(detail)
        side = _box_side(coords, labels)
        size = torch.cat([side / COORDINATE_UNIT, torch.log(side / COORDINATE_UNIT)], -1)
        seen = seen + self.box_size(size).unsqueeze(2) * is_corner
        position = self._encode(coords) * is_point
        prompt = self.label_embedding((labels + 1).long()) + (seen + position) * is_point
        batch, count = coords.shape[:2]
        output = self.output_tokens.weight.expand(batch, count, -1, -1)
        none = torch.zeros_like(output)
        return torch.cat([output, prompt], 2), torch.cat([none, position], 2)

    def _mask_token(self, frame: EncodedFrame, mask: MaskInput) -> tuple[Tensor, Tensor]:
        """Return a token `[B, N, 1, 128]` and where the mask lies, `[B, N, h w]` in -1 to 1."""
        inside = torch.sigmoid(F.avg_pool2d(_bounded(mask), DETAIL_FACTOR)).flatten(2)
        share = inside / (inside.sum(-1, keepdim=True) + 1e-3)
        pooled = share @ frame.features.flatten(2).transpose(1, 2)
        height, width = frame.features.shape[-2:]
        centre = share @ cell_centres(height, width, STRIDE, inside)
        area = torch.log1p(inside.sum(-1, keepdim=True))
        facts = torch.cat([pooled, centre / POSITION_UNIT, area / 10.0], -1)
        present = mask.present.unsqueeze(-1)
        token = self.no_mask.weight * (1 - present) + self.mask_features(facts) * present
        return token.unsqueeze(2), (2.0 * inside - 1.0) * present

    def _score(self, iou_token: Tensor, found: Tensor, coarse: Tensor, weights: Tensor) -> Tensor:
        """Predict IoU from the tokens and from how decided the masks are, drawn coarsely."""
        # The score reads the masks' shape, but its gradient must not change it.
        fixed = weights.detach() if self.training else weights
        logits = render_masks(coarse, fixed.flatten(1, 2))
        shape = mask_statistics(logits).reshape(*found.shape[:3], -1)
        token = iou_token.expand(-1, -1, found.shape[2], -1)
        return torch.sigmoid(self.iou_head(torch.cat([token, found, shape], -1)).squeeze(-1))


def _mlp(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def _bounded(mask: MaskInput) -> Tensor:
    return mask.logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)


def _corners(coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return both corners `[B, N, 2]` of each prompt's box, and 1 where it has one, `[B, N]`."""
    first = (labels == 2).to(coords.dtype).unsqueeze(-1)
    second = (labels == 3).to(coords.dtype).unsqueeze(-1)
    present = first.amax((2, 3)) * second.amax((2, 3))
    return (coords * first).sum(2), (coords * second).sum(2), present


def _box_side(coords: Tensor, labels: Tensor) -> Tensor:
    """Width and height `[B, N, 2]` of each prompt's box, pixels; at least 1."""
    start, end, _ = _corners(coords, labels)
    return (end - start).abs().clamp(min=1.0)


def _anchor(coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Place and scale that a mask's weights are relative to, each `[B, N, 2]`.

    The box's centre and size where there is a box, else the mean of the foreground points.
    """
    start, end, present = _corners(coords, labels)
    counted = (labels == 1).to(coords.dtype).unsqueeze(-1)
    point = (coords * counted).sum(2) / counted.sum(2).clamp(min=1.0)
    has_box = present.unsqueeze(-1)
    anchor = has_box * (start + end) / 2 + (1 - has_box) * point
    scale = 2.0 * COORDINATE_UNIT / (end - start).abs().clamp(min=4.0)
    return anchor, has_box * scale + (1 - has_box)


def box_region(coords: Tensor, labels: Tensor, coarse: Tensor) -> Tensor:
    """Where boxes lie among the embedding's cells, `[B, N, h w]`: 1 inside, -1 outside.

    Cells on the border are in between. 0 everywhere for a prompt without a box.
    """
    start, end, present = _corners(coords, labels)
    height, width = coarse.shape[-2:]
    across = _covered(start[..., 0], end[..., 0], width)
    down = _covered(start[..., 1], end[..., 1], height)
    inside = (down.unsqueeze(-1) * across.unsqueeze(-2)).flatten(2)
    return (2.0 * inside - 1.0) * present.unsqueeze(-1)


def _covered(start: Tensor, end: Tensor, count: int) -> Tensor:
    """Share `[B, N, count]` of each cell between `start` and `end` `[B, N]`, pixels."""
    cells = torch.arange(count, dtype=start.dtype, device=start.device) * STRIDE
    low = torch.maximum(start.unsqueeze(-1), cells)
    high = torch.minimum(end.unsqueeze(-1), cells + STRIDE)
    return F.relu(high - low) / STRIDE


def sample_bilinear(feature_map: Tensor, coords: Tensor, stride: int) -> Tensor:
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


def mask_statistics(logits: Tensor) -> Tensor:
    """Describe masks `[..., H, W]` by size, mean confidence inside and blur of the outline."""
    probability = torch.sigmoid(logits).flatten(-2)
    inside = (probability > 0.5).to(logits.dtype)
    area = inside.sum(-1)
    confidence = (probability * inside).sum(-1) / (area + 1.0)
    unsure = 4.0 * (probability * (1.0 - probability)).sum(-1) / (area + 1.0)
    size = torch.log(area + 1.0) / 10.0
    return torch.stack([size, confidence, unsure.clamp(max=4.0)], -1)
