"""MobileSAM (arXiv 2306.14289): TinyViT encoder, prompt encoder and mask decoder of SAM.

Attributes carry the names of the published checkpoint's tensors, so that it loads as it is.
"""
