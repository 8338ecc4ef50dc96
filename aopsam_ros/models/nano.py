"""`nano`: a small SAM-shaped segmenter, image encoder and promptable mask decoder."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)
from torch import Tensor, nn

from aopsam_ros.models.mobilenet_v2 import PYRAMID_CHANNELS, MobileNetV2

STRIDE = 16
FEATURE_CHANNELS = 128  # what a prompt is compared with; ASF filtering reads these
DETAIL_CHANNELS = 16  # of the stride-4 map that is packed behind them
DETAIL_FACTOR = 4  # from stride 16 to stride 4
EMBEDDING_CHANNELS = FEATURE_CHANNELS + DETAIL_CHANNELS * DETAIL_FACTOR**2
TOKEN_WIDTH = 128
IMAGE_WIDTH = 64
HEADS = 4
MASKS = 3
# Coordinates are divided by this, not by the image's size, so that a model trained on crops of any
# size sees the same positions.
COORDINATE_UNIT = 512.0
LABELS = 5  # padding, background, foreground, first and second box corner
WINDOW_SCALES = (32.0, 128.0)  # pixels: how sharply a window may tell left from right
WINDOW_SIGMAS = (12.0, 40.0)  # pixels: how sharply it may tell near from far
WINDOW_TERMS = 2 * len(WINDOW_SCALES) + len(WINDOW_SIGMAS)


class ContextBlock(nn.Module):
    """Residual block with a large depthwise kernel: cheap context for a small neck."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = nn.GroupNorm(8, channels)
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.project = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape `[B, C, H, W]`."""
        return x + self.project(F.relu(self.expand(self.norm(self.spatial(x)))))


class NanoEncoder(nn.Module):
    """MobileNetV2 and a feature pyramid neck: image to embedding.

    The embedding is `[B, 384, S/16, S/16]`: 128 feature channels, then a 16-channel map at stride 4
    packed by space-to-depth, which lets the decoder draw fine outlines although its signature
    carries one tensor only.
    """

    def __init__(self) -> None:
        super().__init__()
        c4, c8, c16, c32 = PYRAMID_CHANNELS
        width = FEATURE_CHANNELS
        self.backbone = MobileNetV2()
        self.lateral32 = nn.Conv2d(c32, width, 1)
        self.context32 = nn.Sequential(ContextBlock(width, 7), ContextBlock(width, 7))
        self.scene = nn.Linear(width, width)
        self.lateral16 = nn.Conv2d(c16, width, 1)
        self.context16 = nn.Sequential(ContextBlock(width, 7), ContextBlock(width, 5))
        self.lateral8 = nn.Conv2d(c8, 48, 1)
        self.top8 = nn.Conv2d(width, 48, 1)
        self.context8 = ContextBlock(48, 5)
        self.down8 = nn.Conv2d(48, width, 2, 2)
        self.lateral4 = nn.Conv2d(c4, 32, 1)
        self.top4 = nn.Conv2d(48, 32, 1)
        self.detail = nn.Conv2d(32, DETAIL_CHANNELS, 3, padding=1)
        self.feature_norm = nn.GroupNorm(8, width)

    def forward(self, image: Tensor) -> Tensor:
        """Map a normalised image `[B, 3, S, S]` to the embedding `[B, 384, S/16, S/16]`."""
        x4, x8, x16, x32 = self.backbone(image)
        p32 = self.context32(self.lateral32(x32))
        p32 = p32 + self.scene(p32.mean((2, 3)))[:, :, None, None]
        p16 = self.context16(self.lateral16(x16) + _double(p32))
        p8 = self.context8(self.lateral8(x8) + _double(self.top8(p16)))
        p4 = self.detail(F.relu(self.lateral4(x4) + _double(self.top4(p8))))
        features = self.feature_norm(p16 + self.down8(p8))
        return torch.cat([features, F.pixel_unshuffle(p4, DETAIL_FACTOR)], 1)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class Attention(nn.Module):
    """Multi-head attention between two streams of different widths."""

    def __init__(self, query_width: int, key_width: int, inner: int = IMAGE_WIDTH) -> None:
        super().__init__()
        self.query = nn.Linear(query_width, inner)
        self.key = nn.Linear(key_width, inner)
        self.value = nn.Linear(key_width, inner)
        self.out = nn.Linear(inner, query_width)
        self.scale = 1.0 / math.sqrt(inner // HEADS)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend from `[..., Q, query_width]` to `[..., K, key_width]`; leading sizes broadcast."""
        q = _split_heads(self.query(query)) * self.scale
        k = _split_heads(self.key(key))
        v = _split_heads(self.value(value))
        weights = torch.softmax(q @ k.transpose(-1, -2), -1)
        return self.out((weights @ v).transpose(-2, -3).flatten(-2))


def _split_heads(x: Tensor) -> Tensor:
    """Map `[..., T, H * d]` to `[..., H, T, d]`."""
    # reshape, not unflatten: traced, the latter would freeze the number of prompts.
    batch, count, tokens, width = x.shape
    return x.reshape(batch, count, tokens, HEADS, width // HEADS).transpose(-2, -3)


class TwoWayBlock(nn.Module):
    """Tokens talk to each other, read the image, think, and write back into the image.

    The order of SAM's two-way transformer (arXiv 2304.02643, appendix A), with a narrower image
    stream.
    """

    def __init__(self) -> None:
        super().__init__()
        self.self_attention = Attention(TOKEN_WIDTH, TOKEN_WIDTH, TOKEN_WIDTH)
        self.read_image = Attention(TOKEN_WIDTH, IMAGE_WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(TOKEN_WIDTH, 2 * TOKEN_WIDTH),
            nn.ReLU(),
            nn.Linear(2 * TOKEN_WIDTH, TOKEN_WIDTH),
        )
        self.write_image = Attention(IMAGE_WIDTH, TOKEN_WIDTH)
        self.norms = nn.ModuleList(nn.LayerNorm(TOKEN_WIDTH) for _ in range(3))
        self.image_norm = nn.LayerNorm(IMAGE_WIDTH)

    def forward(
        self, tokens: Tensor, image: Tensor, token_position: Tensor, image_position: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Update tokens `[B, N, T, 128]` and image `[B, 1 or N, HW, 64]`."""
        placed = tokens + token_position
        tokens = self.norms[0](tokens + self.self_attention(placed, placed, tokens))
        placed = tokens + token_position
        located = image + image_position
        tokens = self.norms[1](tokens + self._read(placed, located, image))
        tokens = self.norms[2](tokens + self.mlp(tokens))
        placed = tokens + token_position
        image = self.image_norm(image + self.write_image(located, placed, tokens))
        return tokens, image

    def _read(self, tokens: Tensor, located: Tensor, image: Tensor) -> Tensor:
        return read_image(self.read_image, tokens, located, image)


def read_image(attention: Attention, tokens: Tensor, located: Tensor, image: Tensor) -> Tensor:
    """Attend from tokens to an image stream that may be shared by all prompts of a frame.

    A shared stream (`image.shape[1] == 1`) is projected once, and all prompts' tokens are read in
    one matrix product instead of one a prompt.
    """
    if image.shape[1] != 1:
        return attention(tokens, located, image)
    batch, _, count, width = tokens.shape
    flat = tokens.reshape(batch, 1, -1, width)
    return attention(flat, located, image).reshape(batch, -1, count, width)


class NanoMaskDecoder(nn.Module):
    """Prompts and embedding to three low-resolution masks with their predicted IoU."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(2, TOKEN_WIDTH // 2))
        self.label_embedding = nn.Embedding(LABELS, TOKEN_WIDTH)
        self.output_tokens = nn.Embedding(1 + MASKS, TOKEN_WIDTH)
        self.image_in = nn.Linear(FEATURE_CHANNELS, IMAGE_WIDTH)
        self.image_position = nn.Linear(TOKEN_WIDTH, IMAGE_WIDTH)
        self.point_features = nn.Linear(FEATURE_CHANNELS, TOKEN_WIDTH)
        self.point_detail = nn.Linear(DETAIL_CHANNELS, TOKEN_WIDTH)
        self.blocks = nn.ModuleList(TwoWayBlock() for _ in range(2))
        self.final_read = Attention(TOKEN_WIDTH, IMAGE_WIDTH)
        self.final_norm = nn.LayerNorm(TOKEN_WIDTH)
        self.to_detail = nn.Linear(IMAGE_WIDTH, DETAIL_CHANNELS)
        self.mix = nn.Linear(DETAIL_CHANNELS, DETAIL_CHANNELS)
        self.hyper = nn.ModuleList(_mlp(TOKEN_WIDTH, DETAIL_CHANNELS + 1) for _ in range(MASKS))
        self.iou_head = _mlp(2 * TOKEN_WIDTH + 3, 1)
        # Starts as "no window".
        self.window = nn.Linear(TOKEN_WIDTH, DETAIL_CHANNELS * WINDOW_TERMS)
        nn.init.zeros_(self.window.weight)
        nn.init.zeros_(self.window.bias)

    def forward(self, embedding: Tensor, coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Decode `N` prompts of `K` points for each of `B` images.

        Args:
            embedding: `[B, 384, h, w]`.
            coords: `[B, N, K, 2]`, x and y in pixels of the encoder's input image.
            labels: `[B, N, K]`: 1 foreground, 0 background, 2 and 3 box corners, -1 padding.

        Returns:
            Logits `[B, N, 3, 4h, 4w]` and predicted IoU `[B, N, 3]` in 0-1.
        """
        features = embedding[:, :FEATURE_CHANNELS]
        detail = F.pixel_shuffle(embedding[:, FEATURE_CHANNELS:], DETAIL_FACTOR)
        height, width = features.shape[-2:]
        rows = features.flatten(2).transpose(1, 2)
        position = self._encode(_cell_centres(height, width, embedding))
        image = self.image_in(rows).unsqueeze(1)
        image_position = self.image_position(position)

        coords = coords + 0.5  # SAM's convention: the centre of the pixel
        tokens, token_position = self._tokens(features, detail, coords, labels)
        for block in self.blocks:
            tokens, image = block(tokens, image, token_position, image_position)
        placed = tokens + token_position
        read = read_image(self.final_read, placed, image + image_position, image)
        tokens = self.final_norm(tokens + read)
        window = self._window(tokens[:, :, 0], _anchor(coords, labels), detail)
        logits = self._draw(tokens, image, detail, window)
        return logits, self._score(tokens, logits)

    def _encode(self, coords: Tensor) -> Tensor:
        """Random Fourier features of pixel coordinates `[..., 2]`, as in SAM's prompt encoder."""
        phase = (coords * (2.0 / COORDINATE_UNIT) - 1.0) @ self.frequencies * (2.0 * math.pi)
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

    def _window(self, token: Tensor, anchor: Tensor, detail: Tensor) -> Tensor:
        """Let each prompt weigh the fine pixels by where they lie from it (CondInst's idea).

        The image stream has one cell to 16 x 16 pixels, too few to part small neighbours that look
        alike, as windows of a front do. Source of the idea: arXiv 2003.05664.

        Returns:
            `[B * N, 16, 4h, 4w]`, made by one product of factors along y and along x.
        """
        batch, count = anchor.shape[:2]
        height, width = detail.shape[-2:]
        down = _offsets(anchor[..., 1], height)
        across = _offsets(anchor[..., 0], width)
        one_down, one_across = torch.ones_like(down), torch.ones_like(across)
        near = [(_near(down, s), _near(across, s)) for s in WINDOW_SIGMAS]
        below = [(torch.tanh(down / s), one_across) for s in WINDOW_SCALES]
        right = [(one_down, torch.tanh(across / s)) for s in WINDOW_SCALES]
        along_y, along_x = zip(*near, *below, *right, strict=True)
        weights = self.window(token).reshape(batch * count, DETAIL_CHANNELS, 1, WINDOW_TERMS)
        rows = weights * torch.stack(along_y, -1).reshape(batch * count, 1, height, WINDOW_TERMS)
        columns = torch.stack(along_x, -2).reshape(batch * count, WINDOW_TERMS, width)
        product = rows.reshape(batch * count, -1, WINDOW_TERMS) @ columns
        return product.reshape(batch * count, DETAIL_CHANNELS, height, width)

    def _draw(self, tokens: Tensor, image: Tensor, detail: Tensor, window: Tensor) -> Tensor:
        """Combine the prompt's coarse map with the shared stride-4 map, weighted by the tokens."""
        batch = image.shape[0]
        height, width = detail.shape[-2:]
        coarse = self.to_detail(image).transpose(2, 3)
        coarse = coarse.reshape(
            -1, DETAIL_CHANNELS, height // DETAIL_FACTOR, width // DETAIL_FACTOR
        )
        fine = F.interpolate(coarse, scale_factor=4.0, mode="bilinear", align_corners=False)
        fine = (fine + window).reshape(batch, -1, DETAIL_CHANNELS, height, width)
        fine = F.relu(fine + detail.unsqueeze(1)).reshape(-1, DETAIL_CHANNELS, height * width)
        # A product instead of a 1x1 convolution: the layout stays, which halves the training time.
        fine = F.relu(self.mix.weight @ fine + self.mix.bias[:, None])
        weights = torch.stack([mlp(tokens[:, :, 1 + i]) for i, mlp in enumerate(self.hyper)], 2)
        weights = weights.flatten(0, 1)
        logits = weights[..., :-1] @ fine + weights[..., -1:]
        return logits.reshape(batch, -1, MASKS, height, width)

    def _score(self, tokens: Tensor, logits: Tensor) -> Tensor:
        """Predict IoU from the tokens and from how decided the masks look."""
        iou_token = tokens[:, :, :1].expand(-1, -1, MASKS, -1)
        look = _mask_statistics(logits.detach() if self.training else logits)
        score = self.iou_head(torch.cat([iou_token, tokens[:, :, 1 : 1 + MASKS], look], -1))
        return torch.sigmoid(score.squeeze(-1))


class NanoSegmenter(nn.Module):
    """Encoder and decoder together, as they are trained."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = NanoEncoder()
        self.decoder = NanoMaskDecoder()

    def forward(self, images: Tensor, points: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Decode points `[B, N, 1, 2]`, then boxes `[B, M, 2, 2]`; see `NanoMaskDecoder`."""
        embedding = self.encoder(images)
        point_labels = torch.ones(points.shape[:3], device=points.device)
        results = [self.decoder(embedding, points, point_labels)]
        if boxes.shape[1]:
            corners = torch.tensor([2.0, 3.0], device=boxes.device).expand(boxes.shape[:3])
            results.append(self.decoder(embedding, boxes, corners))
        logits, iou = zip(*results, strict=True)
        return torch.cat(logits, 1), torch.cat(iou, 1)


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, TOKEN_WIDTH), nn.ReLU(), nn.Linear(TOKEN_WIDTH, outputs))


def _cell_centres(height: int, width: int, like: Tensor) -> Tensor:
    """Pixel coordinates `[height * width, 2]` of the embedding's cells, row by row."""
    y = (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5) * STRIDE
    x = (torch.arange(width, dtype=like.dtype, device=like.device) + 0.5) * STRIDE
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], -1)


def _anchor(coords: Tensor, labels: Tensor) -> Tensor:
    """Mean `[B, N, 2]` of a prompt's foreground points, or its box's centre."""
    counted = (labels >= 1).to(coords.dtype).unsqueeze(-1)
    return (coords * counted).sum(2) / counted.sum(2).clamp(min=1.0)


def _offsets(anchor: Tensor, size: int) -> Tensor:
    """Distance in pixels `[B, N, size]` of the fine cells along an axis from the prompts."""
    stride = STRIDE // DETAIL_FACTOR
    cells = torch.arange(size, dtype=anchor.dtype, device=anchor.device)
    return (cells + 0.5) * stride - anchor.unsqueeze(-1)


def _near(offsets: Tensor, sigma: float) -> Tensor:
    return torch.exp(-0.5 * (offsets / sigma).square())


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
    """Describe masks `[B, N, M, H, W]` by size, mean confidence inside and blur of the outline."""
    probability = torch.sigmoid(logits).flatten(-2)
    inside = (probability > 0.5).to(logits.dtype)
    area = inside.sum(-1)
    confidence = (probability * inside).sum(-1) / (area + 1.0)
    unsure = 4.0 * (probability * (1.0 - probability)).sum(-1) / (area + 1.0)
    size = torch.log(area + 1.0) / 10.0
    return torch.stack([size, confidence, unsure.clamp(max=4.0)], -1)
