"""The decoder of `nano`: prompts read the image, nothing is written into it.

SAM's decoder lets every prompt change a copy of the image's features, which is most of its work.
Here the image is projected once a frame and only read, as in Mask2Former (arXiv 2112.01527), and a
mask is drawn by a tiny network of its own over a map that all prompts share, as in CondInst (arXiv
2003.05664): its weights, the mask's *code*, are what a prompt is decoded to.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)
from torch import Tensor, nn

STRIDE = 16
FEATURE_CHANNELS = 128  # what a prompt is compared with; ASF filtering reads these
DETAIL_CHANNELS = 16  # of the stride-4 map that is packed behind them
DETAIL_FACTOR = 4  # from stride 16 to stride 4
WIDTH = 128
HEADS = 4
BLOCKS = 3
MASKS = 3
LABELS = 5  # padding, background, foreground, first and second box corner
# Coordinates are divided by these, not by the image's size, so that a model trained on crops of any
# size sees the same positions.
POSITION_UNIT = 512.0
DRAWING_UNIT = 64.0
HIDDEN = 8  # channels of a mask's own network
PLANES = DETAIL_CHANNELS + 2  # what it looks at: details, x and y
# Weights and biases of its first layer, then weights of the second and the last. These need no
# biases: a channel that the first layer keeps constant is one.
CODE = (HIDDEN * PLANES, HIDDEN, HIDDEN * HIDDEN, HIDDEN)


class Attention(nn.Module):
    """Multi-head attention of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend from `[A, Q, 128]` to `[A, K, 128]`."""
        q = _split_heads(self.query(query)) * (WIDTH // HEADS) ** -0.5
        weights = torch.softmax(q @ _split_heads(self.key(key)).transpose(-1, -2), -1)
        read = weights @ _split_heads(self.value(value))
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

    def forward(self, tokens: Tensor, position: Tensor, located: Tensor, image: Tensor) -> Tensor:
        """Update tokens `[B, N, T, 128]`; the image `[B, cells, 128]` is read by all of them.

        `located` is the image with the cells' positions added, `position` that of the tokens.
        """
        batch, _, size, _ = tokens.shape
        flat, where = tokens.flatten(0, 1), position.flatten(0, 1)
        placed = flat + where
        flat = self.norms[0](flat + self.self_attention(placed, placed, flat))
        # All prompts of an image at once: its keys and values are made once.
        asking = (flat + where).reshape(batch, -1, WIDTH)
        read = self.read_image(asking, located, image).reshape(-1, size, WIDTH)
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
        codes, iou = self.decode(embedding, coords, labels)
        logits = self.draw(embedding, codes.flatten(1, 2))
        height, width = logits.shape[-2:]
        return logits.reshape(len(embedding), -1, MASKS, height, width), iou

    def decode(self, embedding: Tensor, coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Find the masks' codes, without drawing them.

        Returns:
            Codes `[B, N, 3, 224]` and predicted IoU `[B, N, 3]` in 0-1.
        """
        features, detail = _unpack(embedding)
        rows = features.flatten(2).transpose(1, 2)
        height, width = features.shape[-2:]
        cells = self.image_position(self._encode(_cell_centres(height, width, STRIDE, embedding)))
        image = self.image_in(rows)
        coords = coords + 0.5  # SAM's convention: the centre of the pixel
        tokens, position = self._tokens(features, detail, coords, labels)
        located = image + cells
        for block in self.blocks:
            tokens = block(tokens, position, located, image)
        found = tokens[:, :, 1 : 1 + MASKS]
        codes = _around(self.code(found), _anchor(coords, labels))
        return codes, self._score(tokens[:, :, :1], found, _coarse(embedding), codes)

    def draw(self, embedding: Tensor, codes: Tensor) -> Tensor:
        """Draw the masks of codes `[B, n, 224]`: logits `[B, n, 4h, 4w]`."""
        _, detail = _unpack(embedding)
        return _draw(detail, STRIDE // DETAIL_FACTOR, codes)

    def _encode(self, coords: Tensor) -> Tensor:
        """Random Fourier features of pixel coordinates `[..., 2]`, as in SAM's prompt encoder."""
        phase = (coords * (2.0 / POSITION_UNIT) - 1.0) @ self.frequencies * (2.0 * math.pi)
        return torch.cat([phase.sin(), phase.cos()], -1)

    def _tokens(
        self, features: Tensor, detail: Tensor, coords: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        is_point = (labels >= 0).to(features.dtype).unsqueeze(-1)
        seen = self.point_features(_sample(features, coords, STRIDE))
        seen = seen + self.point_detail(_sample(detail, coords, STRIDE // DETAIL_FACTOR))
        position = self._encode(coords) * is_point
        prompt = self.label_embedding((labels + 1).long()) + (seen + position) * is_point
        batch, count = coords.shape[:2]
        output = self.output_tokens.weight.expand(batch, count, -1, -1)
        none = torch.zeros_like(output)
        return torch.cat([output, prompt], 2), torch.cat([none, position], 2)

    def _score(self, iou_token: Tensor, found: Tensor, coarse: Tensor, codes: Tensor) -> Tensor:
        """Predict IoU from the tokens and from how decided the masks look, drawn coarsely."""
        # What the masks look like is evidence: they are not to change for the score's sake.
        seen = codes.detach() if self.training else codes
        logits = _draw(coarse, STRIDE, seen.flatten(1, 2))
        look = _mask_statistics(logits).reshape(*found.shape[:2], MASKS, -1)
        token = iou_token.expand(-1, -1, MASKS, -1)
        return torch.sigmoid(self.iou_head(torch.cat([token, found, look], -1)).squeeze(-1))


def _mlp(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def _unpack(embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Return features `[B, 128, h, w]` and the detail map `[B, 16, 4h, 4w]`."""
    detail = F.pixel_shuffle(embedding[:, FEATURE_CHANNELS:], DETAIL_FACTOR)
    return embedding[:, :FEATURE_CHANNELS], detail


def _coarse(embedding: Tensor) -> Tensor:
    """Return the detail map's mean in every cell of the embedding, `[B, 16, h, w]`."""
    packed = embedding[:, FEATURE_CHANNELS:]
    height, width = packed.shape[-2:]
    return packed.reshape(-1, DETAIL_CHANNELS, DETAIL_FACTOR**2, height, width).mean(2)


def _around(code: Tensor, anchor: Tensor) -> Tensor:
    """Turn codes that mean distances from the prompt into codes for positions in the image.

    A code's network sees x and y linearly first, so the prompt's own place goes into the biases,
    and all prompts can share one map of positions.
    """
    weights, biases, rest = code.split([CODE[0], CODE[1], sum(CODE[2:])], -1)
    first = weights.reshape(*weights.shape[:-1], HIDDEN, PLANES)
    place = (anchor / DRAWING_UNIT).unsqueeze(2).unsqueeze(3)
    return torch.cat([weights, biases - (first[..., -2:] * place).sum(-1), rest], -1)


def _draw(detail: Tensor, stride: int, codes: Tensor) -> Tensor:
    """Run the network of each code `[B, n, 224]` over a map `[B, 16, H, W]`: `[B, n, H, W]`."""
    batch = len(detail)
    height, width = detail.shape[-2:]
    places = _cell_centres(height, width, stride, detail).T / DRAWING_UNIT
    planes = torch.cat([detail.flatten(2), places.expand(batch, -1, -1)], 1)
    first, biases, second, last = codes.split(CODE, -1)
    # One product for all masks of an image.
    x = first.reshape(batch, -1, PLANES) @ planes + biases.reshape(batch, -1, 1)
    x = F.relu(x).reshape(-1, HIDDEN, height * width)
    x = F.relu(second.reshape(-1, HIDDEN, HIDDEN) @ x)
    return (last.reshape(-1, 1, HIDDEN) @ x).reshape(batch, -1, height, width)


def _cell_centres(height: int, width: int, stride: int, like: Tensor) -> Tensor:
    """Pixel coordinates `[height * width, 2]` of a map's cells, row by row."""
    y = (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5) * stride
    x = (torch.arange(width, dtype=like.dtype, device=like.device) + 0.5) * stride
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], -1)


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
