"""EdgeSAM (arXiv 2312.06660): RepViT, of a checkout of its repository.

As SAM's, its prompt encoder and mask decoder are MobileSAM's, tensor by tensor. RepViT weighs
channels by their mean over the whole square: the encoder takes nothing else.
"""

from pathlib import Path

from aopsam_ros.models.adapters.adapted import Adapted, Thresholds, fill
from aopsam_ros.models.adapters.authors_code import import_part
from aopsam_ros.models.adapters.table import Architecture
from aopsam_ros.models.export import sam_parts
from aopsam_ros.models.mobile_sam import IMAGE_SIZE, Sam

THRESHOLDS: Thresholds = (0.88, 0.95)
# Heads that some of its checkpoints have besides: they propose boxes.
OTHER_HEADS = ("fpn.", "rpn_head.")


def adapt(architecture: Architecture, checkpoint: Path, source: Path | None) -> Adapted:
    """Make the parts of a bundle."""
    # Without the package around it, which needs a detection framework for those heads.
    networks = import_part("edge_sam/modeling", "rep_vit", source, architecture.code)
    encoder = networks.RepViT(architecture.variant, IMAGE_SIZE, fuse=True, upsample_mode="bicubic")
    model = Sam(encoder, IMAGE_SIZE)
    fill(model, "EdgeSAM", checkpoint, unused=OTHER_HEADS)
    return Adapted(sam_parts(model), THRESHOLDS)
