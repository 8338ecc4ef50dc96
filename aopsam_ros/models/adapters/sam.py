"""SAM, of the package `segment_anything`, and EdgeSAM, of a checkout of its repository.

Their prompt encoder and mask decoder are MobileSAM's, tensor by tensor: they run whole and in three
parts. Their encoders take squares only: ViT learnt a position for each cell, and RepViT weighs
channels by their mean over the whole square.
"""

from pathlib import Path

from aopsam_ros.models.adapters.authors_code import import_part
from aopsam_ros.models.adapters.table import Architecture
from aopsam_ros.models.export import BundleParts, sam_parts
from aopsam_ros.models.loading import fill
from aopsam_ros.models.mobile_sam.model import IMAGE_SIZE, Sam
from aopsam_ros.models.stored_weights import round_weights

ROUNDED = ("vit_h",)  # its 2.5 GB are more than one file of ONNX can hold
# Heads that some of EdgeSAM's checkpoints have besides: they propose boxes.
OTHER_HEADS = ("fpn.", "rpn_head.")


def sam(architecture: Architecture, checkpoint: Path, source: Path | None) -> BundleParts:
    """SAM (arXiv 2304.02643): ViT-B, ViT-L and ViT-H."""
    builder = import_part("segment_anything", "build_sam", source, architecture.code)
    theirs = builder.sam_model_registry[architecture.variant]()
    model = Sam(theirs.image_encoder, theirs.image_encoder.img_size)
    fill(model, "SAM", checkpoint)
    if architecture.variant in ROUNDED:
        round_weights(model.image_encoder)
    return sam_parts(model)


def edge_sam(architecture: Architecture, checkpoint: Path, source: Path | None) -> BundleParts:
    """EdgeSAM (arXiv 2312.06660): RepViT."""
    # Without the package around it, which needs a detection framework for the other heads.
    networks = import_part("edge_sam/modeling", "rep_vit", source, architecture.code)
    encoder = networks.RepViT(architecture.variant, IMAGE_SIZE, fuse=True, upsample_mode="bicubic")
    model = Sam(encoder, IMAGE_SIZE)
    fill(model, "EdgeSAM", checkpoint, unused=OTHER_HEADS)
    return sam_parts(model)
