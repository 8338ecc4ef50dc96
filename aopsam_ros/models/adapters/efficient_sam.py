"""EfficientSAM, of a checkout of its repository.

Its decoder takes exactly six points, the missing ones marked as such, and no mask to start from.
"""

from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from aopsam_ros.models.adapters.authors_code import import_part
from aopsam_ros.models.adapters.table import Architecture
from aopsam_ros.models.export import BundleParts
from aopsam_ros.models.loading import fill
from aopsam_ros.models.mobile_sam.tiny_vit import EMBEDDING_CHANNELS

WIDTHS = {"vitt": (192, 3), "vits": (384, 6)}  # of the encoder, and its heads
MISSING = -1.0  # label and coordinates of a point


class SixPoints(nn.Module):
    """Prompt encoder and mask decoder with a bundle's signature; three masks, as the authors'."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401  (the authors' class)
        super().__init__()
        self.prompts = model.prompt_encoder
        self.decoder = model.mask_decoder
        self.points = model.decoder_max_num_input_points
        self.image_size = model.image_encoder.img_size
        self.register_buffer("image_position", self.prompts.get_dense_pe().detach())

    def forward(self, embedding: Tensor, coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Decode N prompts, of whose K points the first six count; as `PointDecoder`."""
        is_missing = (labels < 0).to(coords.dtype).unsqueeze(-1)
        coords = coords + is_missing * (MISSING - coords)
        none = labels[:, :1] * 0.0 + MISSING
        labels = torch.cat([labels, *[none] * self.points], 1)[:, : self.points]
        nowhere = none.unsqueeze(-1).expand(-1, -1, 2)
        coords = torch.cat([coords, *[nowhere] * self.points], 1)[:, : self.points]
        each = embedding + coords[:, 0, 0].reshape(-1, 1, 1, 1) * 0.0  # one for each prompt
        # The position is the same for all: it need not be repeated, which engines take badly.
        with mock.patch.object(torch, "repeat_interleave", lambda position, *_, **__: position):
            logits, iou = self.decoder.predict_masks(
                each, self.image_position, self._tokens(coords, labels)
            )
        return logits[:, 1:], iou[:, 1:]

    def _tokens(self, coords: Tensor, labels: Tensor) -> Tensor:
        """Encode points; as the authors' prompt encoder, which writes into its input."""
        theirs = self.prompts
        kinds = (
            theirs.invalid_points,
            theirs.point_embeddings,
            theirs.bbox_top_left_embeddings,
            theirs.bbox_bottom_right_embeddings,
        )
        position = theirs.pe_layer._pe_encoding((coords + 0.5) / self.image_size)
        is_kind = [(labels == label).to(coords.dtype) for label in (MISSING, 1.0, 2.0, 3.0)]
        weights = torch.cat([kind.weight for kind in kinds])
        return position + torch.stack(is_kind, -1) @ weights


def efficient_sam(architecture: Architecture, checkpoint: Path, source: Path | None) -> BundleParts:
    """EfficientSAM (arXiv 2312.00863): ViT-Tiny and ViT-Small."""
    package = import_part("efficient_sam", "efficient_sam", source, architecture.code)
    model = package.build_efficient_sam(*WIDTHS[architecture.variant])
    fill(model, "EfficientSAM", checkpoint, "model")
    return BundleParts(
        encoder=model.image_encoder,
        decoder=SixPoints(model),
        predictor=None,
        image_size=model.image_encoder.img_size,
        similarity_channels=EMBEDDING_CHANNELS,
        resize="stretch",
        thresholds=(0.7, 0.9),
    )
