"""`nano`: a small SAM-shaped segmenter, image encoder and promptable mask decoder together."""

import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)
from torch import Tensor, nn

from aopsam_ros.models.efficientnet_lite import EfficientNetLite
from aopsam_ros.models.nano_decoder import DETAIL_FACTOR, FEATURE_CHANNELS, NanoMaskDecoder
from aopsam_ros.models.nano_drawing import DETAIL_CHANNELS
from aopsam_ros.models.prompt_predictor import PromptPredictor

SIZE_DIVISIBILITY = 32  # of images' sides: the coarsest stride
EMBEDDING_CHANNELS = FEATURE_CHANNELS + DETAIL_CHANNELS * DETAIL_FACTOR**2
BACKBONE = "lite0"


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


class SemanticHead(nn.Module):
    """Recovers from the coarsest features what things are: segmentation alone forgets it.

    Begins as the identity: the features as ImageNet's classes taught them.
    """

    def __init__(self, channels: int, hidden: int = 512) -> None:
        super().__init__()
        self.linear = nn.Conv2d(channels, channels, 1)
        self.expand = nn.Conv2d(channels, hidden, 1)
        self.project = nn.Conv2d(hidden, channels, 1)
        nn.init.dirac_(self.linear.weight)
        nn.init.zeros_(self.project.weight)
        for layer in (self.linear, self.project):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape `[B, C, H, W]`."""
        return self.linear(x) + self.project(F.relu(self.expand(x)))


class NanoEncoder(nn.Module):
    """EfficientNet-Lite and a feature pyramid neck: image to embedding.

    The embedding is `[B, 384, S/16, S/16]`: 128 feature channels, then a 16-channel map at stride 4
    packed by space-to-depth, which lets the decoder draw fine outlines although its signature
    carries one tensor only. Beside it the encoder gives `semantic_map` `[B, 320, S/32, S/32]`:
    what things are, trained to stay near the features that tell ImageNet's classes apart.
    """

    def __init__(self, backbone: str = BACKBONE) -> None:
        super().__init__()
        self.backbone = EfficientNetLite(backbone)
        c4, c8, c16, c32 = self.backbone.channels
        width = FEATURE_CHANNELS
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
        self.semantic = SemanticHead(c32)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map a normalised image `[B, 3, H, W]` to the embedding and the semantic map."""
        x4, x8, x16, x32 = self.backbone(image)
        p32 = self.context32(self.lateral32(x32))
        p32 = p32 + self.scene(p32.mean((2, 3)))[:, :, None, None]
        p16 = self.context16(self.lateral16(x16) + _double(p32))
        p8 = self.context8(self.lateral8(x8) + _double(self.top8(p16)))
        p4 = self.detail(F.relu(self.lateral4(x4) + _double(self.top4(p8))))
        features = self.feature_norm(p16 + self.down8(p8))
        embedding = torch.cat([features, F.pixel_unshuffle(p4, DETAIL_FACTOR)], 1)
        return embedding, self.semantic(x32)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class NanoSegmenter(nn.Module):
    """Encoder, decoder and Prompt Predictor, as they are trained."""

    def __init__(self, backbone: str = BACKBONE) -> None:
        super().__init__()
        self.encoder = NanoEncoder(backbone)
        self.decoder = NanoMaskDecoder()
        self.predictor = PromptPredictor(EMBEDDING_CHANNELS)
