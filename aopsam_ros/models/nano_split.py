"""nano's decoder with a bundle's signatures, whole and in three parts: one image, no batches."""

import torch
from torch import Tensor, nn

from aopsam_ros.models.decoder_parts import DecoderParts
from aopsam_ros.models.nano_decoder import EncodedFrame, MaskInput, NanoMaskDecoder
from aopsam_ros.models.nano_drawing import render_masks

# The map is drawn in so many bands of rows: what lies between two layers of 16 masks is at most a
# megabyte then, and stays in a processor's cache. A map of an image whose sides are multiples of 32
# can be cut so.
BANDS = 8


class SinglePromptSet(nn.Module):
    """nano's decoder with the bundle's signature: for one image."""

    def __init__(self, decoder: NanoMaskDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self,
        embedding: Tensor,
        coords: Tensor,
        labels: Tensor,
        mask_input: Tensor | None = None,
        has_mask_input: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decode `N` prompts of `K` points on `[1, 384, h, w]`; as MobileSAM's `PointDecoder`."""
        mask = None
        if mask_input is not None and has_mask_input is not None:
            mask = MaskInput(mask_input.transpose(0, 1), has_mask_input.unsqueeze(0))
        logits, iou = self.decoder(embedding, coords.unsqueeze(0), labels.unsqueeze(0), mask)
        return logits[0], iou[0]  # `squeeze` would be exported as a branch


class NanoFramePart(nn.Module):
    """The embedding to what all prompts share."""

    def __init__(self, decoder: NanoMaskDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """Map `[1, C, h, w]` to the tensors of an `EncodedFrame`."""
        return self.decoder.encode_frame(embedding)


class NanoPromptPart(nn.Module):
    """Prompts to the weights of their masks' networks and predicted IoU."""

    def __init__(self, decoder: NanoMaskDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Decode `[N, K, 2]` and `[N, K]`, after the tensors of an `EncodedFrame`.

        Returns:
            Predicted IoU `[N, 4]` and weights `[N, 4, 224]`.
        """
        *tensors, coords, labels = inputs
        frame = EncodedFrame(*tensors)
        weights, iou = self.decoder.decode(frame, coords.unsqueeze(0), labels.unsqueeze(0))
        return iou[0], weights[0]


class NanoMaskPart(nn.Module):
    """Weights of masks' networks to masks; without weights of its own."""

    def forward(self, fine: Tensor, mask_weights: Tensor) -> Tensor:
        """Map planes `[1, 19, M, M]` and weights `[n, 224]` to logits `[n, M, M]`."""
        rows = fine.shape[2] // BANDS
        bands = [fine[:, :, k * rows : (k + 1) * rows] for k in range(BANDS)]
        drawn = [render_masks(band, mask_weights.unsqueeze(0))[0] for band in bands]
        return torch.cat(drawn, 1)


def split_nano(decoder: NanoMaskDecoder) -> DecoderParts:
    """Return nano's decoder in three parts."""
    return DecoderParts(
        frame=NanoFramePart(decoder),
        prompts=NanoPromptPart(decoder),
        masks=NanoMaskPart(),
        frame_tensors=EncodedFrame._fields,
        prompt_tensors=EncodedFrame._fields,
        mask_tensors=("fine",),
        mask_weights={"mask_weights": {}},
        is_per_mask=True,
    )
