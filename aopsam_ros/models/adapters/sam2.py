"""SAM 2's family on images: SAM 2.1 of the package `sam2`, EdgeTAM and EfficientTAM of checkouts.

The decoder draws on the encoder's two finer maps, where there are any. They are folded into further
channels of the embedding, so that a bundle's signature stays what it is. A variant is the name of
the authors' configuration.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from aopsam_ros.models.adapters.authors_code import import_whole
from aopsam_ros.models.adapters.sam2_decoder import ImageDecoder, fine_channels
from aopsam_ros.models.adapters.table import Architecture
from aopsam_ros.models.export import BundleParts
from aopsam_ros.models.loading import fill
from aopsam_ros.models.mobile_sam.tiny_vit import EMBEDDING_CHANNELS


def sam2(architecture: Architecture, checkpoint: Path, source: Path | None) -> BundleParts:
    """SAM 2.1 (arXiv 2408.00714): Hiera tiny to large."""
    builder = import_whole("sam2.build_sam", source, architecture.code)
    model = builder.build_sam2(architecture.variant, None, device="cpu")
    fill(model, "SAM 2.1", checkpoint, "model")
    # Hiera's position of the one image size: what it computes anew cannot be exported.
    trunk = model.image_encoder.trunk
    side = model.image_size // trunk.patch_embed.proj.stride[0]
    position = trunk._get_pos_embed((side, side)).detach()
    trunk._get_pos_embed = lambda _: position
    return _image_parts(model)


def edge_tam(architecture: Architecture, checkpoint: Path, source: Path | None) -> BundleParts:
    """EdgeTAM (arXiv 2501.07256): SAM 2 with RepViT."""
    backbones: Any = import_whole("sam2.modeling.backbones.timm", source, architecture.code)
    create = backbones.create_model

    def create_empty(*names: Any, **options: Any) -> Any:  # noqa: ANN401  (timm's)
        # It would fetch weights that the checkpoint then replaces.
        return create(*names, **{**options, "pretrained": False})

    backbones.create_model = create_empty
    builder = import_whole("sam2.build_sam", source, architecture.code)
    model = builder.build_sam2(architecture.variant, None, device="cpu")
    return _image_parts(fill(model, "EdgeTAM", checkpoint, "model"))


def efficient_tam(architecture: Architecture, checkpoint: Path, source: Path | None) -> BundleParts:
    """EfficientTAM (arXiv 2411.18933): SAM 2 with a plain ViT."""
    module = "efficient_track_anything.build_efficienttam"
    builder = import_whole(module, source, architecture.code)
    whole = ["++model.compile_image_encoder=False"]
    model = builder.build_efficienttam(
        architecture.variant, None, device="cpu", hydra_overrides_extra=whole
    )
    return _image_parts(fill(model, "EfficientTAM", checkpoint, "model"))


def _image_parts(model: Any) -> BundleParts:  # noqa: ANN401  (the authors' class)
    return BundleParts(
        encoder=ImagePath(model),
        decoder=ImageDecoder(model),
        predictor=None,
        image_size=model.image_size,
        similarity_channels=EMBEDDING_CHANNELS,
        takes_mask_input=True,
        resize="stretch",
        thresholds=(0.8, 0.95),
    )


class ImagePath(nn.Module):
    """The encoder, as `SAM2ImagePredictor.set_image` runs it."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401  (the authors' class)
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """Map `[1, 3, S, S]` to `[1, 256 + folded channels, S/16, S/16]`."""
        found = self.model.forward_image(image)["backbone_fpn"]
        *finer, embedding = found[-self.model.num_feature_levels :]
        if self.model.directly_add_no_mem_embed:
            embedding = embedding + self.model.no_mem_embed.reshape(1, -1, 1, 1)
        factors = [factor for _, factor in fine_channels(self.model.sam_mask_decoder)]
        folded = [F.pixel_unshuffle(*pair) for pair in zip(finer, factors, strict=True)]
        return torch.cat([embedding, *folded], 1)
