"""nano's decoder with a bundle's signatures, whole and in three parts: one image, no batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aopsam_ros.models.decoder_parts import DecoderParts
from aopsam_ros.models.nano_decoder import Frame, NanoMaskDecoder
from aopsam_ros.models.nano_drawing import render_masks

# The map is drawn in so many bands of rows: what lies between two layers of 16 masks is at most a
# megabyte then, and stays in a processor's cache. A map of an image whose sides are multiples of 32
# can be cut so.
BANDS = 8


class SinglePromptSet(nn.Module):
    """nano's decoder with the bundle's signature: one image, `N` prompts of `K` points."""

    def __init__(self, decoder: NanoMaskDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, embedding: Tensor, coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Map `[1, C, h, w]`, `[N, K, 2]`, `[N, K]` to logits `[N, 3, M, M]`, IoU `[N, 3]`."""
        logits, iou = self.decoder(embedding, coords.unsqueeze(0), labels.unsqueeze(0))
        return logits[0], iou[0]  # `squeeze` would be exported as a branch


class FramePart(nn.Module):
    """The embedding to what all prompts share."""

    def __init__(self, decoder: NanoMaskDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """Map `[1, C, h, w]` to the tensors of a `Frame`."""
        return self.decoder.encode_frame(embedding)


class PromptPart(nn.Module):
    """Prompts to their masks' codes and predicted IoU."""

    def __init__(self, decoder: NanoMaskDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Map the tensors of a `Frame`, `[N, K, 2]` and `[N, K]` to `[N, 3]` and `[N, 3, 224]`."""
        *frame, coords, labels = inputs
        codes, iou = self.decoder.decode(Frame(*frame), coords.unsqueeze(0), labels.unsqueeze(0))
        return iou[0], codes[0]


class MaskPart(nn.Module):
    """Codes to masks; without weights of its own."""

    def forward(self, fine: Tensor, codes: Tensor) -> Tensor:
        """Map planes `[1, 19, M, M]` and codes `[n, 224]` to logits `[n, M, M]`."""
        rows = fine.shape[2] // BANDS
        bands = [fine[:, :, k * rows : (k + 1) * rows] for k in range(BANDS)]
        return torch.cat([render_masks(band, codes.unsqueeze(0))[0] for band in bands], 1)


def split_nano(decoder: NanoMaskDecoder) -> DecoderParts:
    """Return nano's decoder in three parts."""
    return DecoderParts(
        frame=FramePart(decoder),
        prompts=PromptPart(decoder),
        masks=MaskPart(),
        frame_tensors=Frame._fields,
        prompt_tensors=Frame._fields,
        mask_tensors=("fine",),
        mask_weights={"codes": {}},
        is_per_mask=True,
    )
