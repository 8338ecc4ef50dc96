"""EfficientTAM (arXiv 2411.18933): SAM 2 with a plain ViT, of a checkout; its image path."""

from pathlib import Path

from aopsam_ros.models.adapters.adapted import Adapted, fill
from aopsam_ros.models.adapters.authors_code import import_whole
from aopsam_ros.models.adapters.sam2_graphs import adapt_image_path
from aopsam_ros.models.adapters.table import Architecture


def adapt(architecture: Architecture, checkpoint: Path, source: Path | None) -> Adapted:
    """Make the parts of a bundle; the variant is the name of the authors' configuration."""
    package = "efficient_track_anything"
    builder = import_whole(f"{package}.build_efficienttam", source, architecture.code)
    whole = ["++model.compile_image_encoder=False"]
    model = builder.build_efficienttam(
        architecture.variant, None, device="cpu", hydra_overrides_extra=whole
    )
    return adapt_image_path(fill(model, "EfficientTAM", checkpoint, "model"))
