"""MobileSAM (arXiv 2306.14289): TinyViT encoder, prompt encoder and mask decoder of SAM.

Attributes carry the names of the published checkpoint's tensors, so that it loads as it is.
"""

from aopsam_ros.models.mobile_sam.model import IMAGE_SIZE, MobileSam, PointDecoder, Sam
from aopsam_ros.models.mobile_sam.prompt_encoder import STRIDE
from aopsam_ros.models.mobile_sam.split import split_mobile_sam
from aopsam_ros.models.mobile_sam.tiny_vit import EMBEDDING_CHANNELS

__all__ = [
    "EMBEDDING_CHANNELS",
    "IMAGE_SIZE",
    "STRIDE",
    "MobileSam",
    "PointDecoder",
    "Sam",
    "split_mobile_sam",
]
