"""Masks: their encoding and other formats, and which of the decoder's masks are kept."""

from aopsam_ros.masks.formats import to_coco, to_label_map, to_polygons
from aopsam_ros.masks.rle import decode, decode_full, encode, encode_full

__all__ = [
    "decode",
    "decode_full",
    "encode",
    "encode_full",
    "to_coco",
    "to_label_map",
    "to_polygons",
]
