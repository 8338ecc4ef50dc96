"""EdgeTAM (arXiv 2501.07256): SAM 2 with RepViT, of a checkout; its image path."""

from pathlib import Path
from typing import Any

from aopsam_ros.models.adapters.adapted import Adapted, fill
from aopsam_ros.models.adapters.authors_code import import_whole
from aopsam_ros.models.adapters.sam2_graphs import adapt_image_path
from aopsam_ros.models.adapters.table import Architecture


def adapt(architecture: Architecture, checkpoint: Path, source: Path | None) -> Adapted:
    """Make the parts of a bundle; the variant is the name of the authors' configuration."""
    backbones: Any = import_whole("sam2.modeling.backbones.timm", source, architecture.code)
    create = backbones.create_model

    def create_empty(*names: Any, **options: Any) -> Any:  # noqa: ANN401  (timm's)
        # It would fetch weights that the checkpoint then replaces.
        return create(*names, **{**options, "pretrained": False})

    backbones.create_model = create_empty
    builder = import_whole("sam2.build_sam", source, architecture.code)
    model = builder.build_sam2(architecture.variant, None, device="cpu")
    return adapt_image_path(fill(model, "EdgeTAM", checkpoint, "model"))
