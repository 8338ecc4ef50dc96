"""Masks: their encoding, and which of the decoder's masks are kept."""

from aopsam_ros.masks.encoding import decode, decode_full, encode, encode_full

__all__ = ["decode", "decode_full", "encode", "encode_full"]
