"""SAM (arXiv 2304.02643): ViT-B, ViT-L and ViT-H of the package `segment_anything`.

The prompt encoder and the mask decoder are MobileSAM's, tensor by tensor: they run whole and in
three parts. ViT learnt a position for each cell of the square: the encoder takes nothing else.
"""

from pathlib import Path

from aopsam_ros.models.adapters.adapted import Adapted, Thresholds, fill
from aopsam_ros.models.adapters.authors_code import import_part
from aopsam_ros.models.adapters.table import Architecture
from aopsam_ros.models.export import sam_parts
from aopsam_ros.models.mobile_sam import Sam
from aopsam_ros.models.stored_weights import round_weights

THRESHOLDS: Thresholds = (0.88, 0.95)
ROUNDED = ("vit_h",)  # its 2.5 GB are more than one file of ONNX can hold


def adapt(architecture: Architecture, checkpoint: Path, source: Path | None) -> Adapted:
    """Make the parts of a bundle."""
    builder = import_part("segment_anything", "build_sam", source, architecture.code)
    theirs = builder.sam_model_registry[architecture.variant]()
    model = Sam(theirs.image_encoder, theirs.image_encoder.img_size)
    fill(model, "SAM", checkpoint)
    if architecture.variant in ROUNDED:
        round_weights(model.image_encoder)
    return Adapted(sam_parts(model), THRESHOLDS)
