"""SAM 2.1 (arXiv 2408.00714): Hiera tiny to large of the package `sam2`; its image path."""

from pathlib import Path
from typing import Any

from aopsam_ros.models.adapters.adapted import Adapted, fill
from aopsam_ros.models.adapters.authors_code import import_whole
from aopsam_ros.models.adapters.sam2_graphs import adapt_image_path
from aopsam_ros.models.adapters.table import Architecture


def adapt(architecture: Architecture, checkpoint: Path, source: Path | None) -> Adapted:
    """Make the parts of a bundle; the variant is the name of the authors' configuration."""
    builder = import_whole("sam2.build_sam", source, architecture.code)
    model = builder.build_sam2(architecture.variant, None, device="cpu")
    fill(model, "SAM 2.1", checkpoint, "model")
    _fix_position(model)
    return adapt_image_path(model)


def _fix_position(model: Any) -> None:  # noqa: ANN401  (the authors' class)
    """Keep Hiera's position of the one image size: what it computes anew cannot be exported."""
    trunk = model.image_encoder.trunk
    side = model.image_size // trunk.patch_embed.proj.stride[0]
    position = trunk._get_pos_embed((side, side)).detach()
    trunk._get_pos_embed = lambda _: position
