"""The mask decoder in three parts: once a frame, once a prompt, once a prompt with a mask to draw.

The weights and the numbers are those of the whole decoder; see `prompt_image` for the arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aopsam_ros.models.mobile_sam.attention import WIDTH
from aopsam_ros.models.mobile_sam.folding import Affine, FoldedRead, FoldedWrite
from aopsam_ros.models.mobile_sam.layers import reshape
from aopsam_ros.models.mobile_sam.mask_decoder import MASKS, double_weights
from aopsam_ros.models.mobile_sam.model import MobileSam
from aopsam_ros.models.mobile_sam.prompt_image import (
    Written,
    centred,
    in_rows,
    mean_of,
    norm_scale,
    project,
)
from aopsam_ros.models.split_decoder import SplitDecoder

# What all prompts of a frame share, by block. Of the frame's image: values `[8, cells, 16]`, keys
# `[8, 16, cells]` and queries `[8, 17, cells]`, after the first block with their cells' places; its
# mean square `[cells]`; `meets_j_k`, in block k, its products with what block j writes,
# `[8, 17, cells]`.
SHARED = (
    "value_0", "key_0", "query_0", "variance_0", "meets_0_0",
    "value_1", "key_1", "key_place_1", "query_1", "query_place_1", "variance_1",
    "meets_0_1", "meets_1_1",
    "value_2", "key_2", "key_place_2",
)  # fmt: skip
ENLARGED = "enlarged"  # the frame's image before the first norm of the upscaling, `[h, w, 256]`
# What a prompt is decoded to: its masks' tokens `[N, 4, 256]`, and what it wrote; see `Written`.
CODES = ("tokens", "told_0", "weights_0", "scale_0", "told_1", "weights_1", "scale_1")


class FoldedDecoder(nn.Module):
    """The weights of the three parts."""

    gain: Tensor
    enlarge: Tensor
    enlarged_bias: Tensor

    def __init__(self, model: MobileSam) -> None:
        super().__init__()
        self.prompt_encoder, self.decoder = model.prompt_encoder, model.mask_decoder
        transformer = model.mask_decoder.transformer
        self.blocks = transformer.layers
        norms = [None, *(block.norm4 for block in self.blocks)]
        side = model.mask_decoder.side
        position = model.prompt_encoder.image_position().detach().reshape(side, side, -1)
        reads = [block.cross_attn_token_to_image for block in self.blocks]
        reads.append(transformer.final_attn_token_to_image)
        self.reads = nn.ModuleList(
            FoldedRead(read, norm, position) for read, norm in zip(reads, norms, strict=True)
        )
        self.writes = nn.ModuleList(
            FoldedWrite(block.cross_attn_image_to_token, norm, position)
            for block, norm in zip(self.blocks, norms, strict=False)
        )
        self.register_buffer("gain", Affine(norms[1], position).gain)
        self._fold_upscaling(Affine(norms[2], position))

    def _fold_upscaling(self, affine: Affine) -> None:
        weight, bias = double_weights(self.decoder.output_upscaling[0])
        self.register_buffer("enlarge", (weight * affine.gain).detach().T)
        self.register_buffer("enlarged_bias", (weight @ affine.bias + bias).detach())

    def turned(self, x: Tensor) -> Tensor:
        """Apply the first block's gain to vectors `[..., 256]` of its sum, for the second's."""
        return centred(x * self.gain)


class FramePart(nn.Module):
    """The embedding to what all prompts share."""

    def __init__(self, folded: FoldedDecoder) -> None:
        super().__init__()
        self.folded = folded

    def forward(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """Map `[1, 256, h, w]` to `SHARED` and `ENLARGED`."""
        reads, writes, turned = self.folded.reads, self.folded.writes, self.folded.turned
        none = self.folded.prompt_encoder.no_mask_embed.weight.T
        image = embedding.reshape(WIDTH, -1) + none
        first = *reads[0].project(image, embedding), *writes[0].project(image, embedding)
        image = centred(image, 0)
        first = *first, _variance(image), writes[0].meet(image)
        second = *reads[1].project(image, embedding), *writes[1].project(image, embedding)
        image = turned(image.T).T
        second = *second, _variance(image), mean_of(project(turned(writes[0].tell), image))
        second = *second, writes[1].meet(image)
        enlarged = (image.T @ self.folded.enlarge).reshape(*embedding.shape[2:], WIDTH)
        return *first, *second, *reads[2].project(image, embedding), enlarged


class PromptPart(nn.Module):
    """Prompts to their predicted IoU and codes."""

    def __init__(self, folded: FoldedDecoder) -> None:
        super().__init__()
        self.folded = folded

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Map `SHARED`, `[N, K, 2]` and `[N, K]` to predicted IoU `[N, 3]` and `CODES`."""
        *frame, coords, labels = inputs
        shared = dict(zip(SHARED, frame, strict=True))
        folded, decoder = self.folded, self.folded.decoder
        position, absent = decoder.tokens(*folded.prompt_encoder(coords, labels))
        unseen = absent.unsqueeze(1).unsqueeze(1)
        tokens = position
        written: tuple[Written, ...] = ()
        values: tuple[Tensor, ...] = ()
        for k, block in enumerate(folded.blocks):
            tokens = block.talk(tokens, position, unseen)
            tokens = block.think(tokens, self._read(k, tokens + position, shared, written))
            weights, value = folded.writes[k](
                tokens + position, tokens, absent, _projected("query", k, shared), written
            )
            values = *values, value
            written = self._write(k, weights, values, shared, written)
        seen = self._read(len(written), tokens + position, shared, written)
        tokens = decoder.transformer.norm_final_attn(tokens + seen)
        iou = decoder.iou_prediction_head(tokens[:, 0])[:, 1:]
        return iou, tokens[:, 1 : 1 + MASKS], *(x for block in written for x in block)

    def _read(
        self, k: int, placed: Tensor, shared: dict[str, Tensor], written: tuple[Written, ...]
    ) -> Tensor:
        key = _projected("key", k, shared)
        return self.folded.reads[k](placed, shared[f"value_{k}"], key, written)

    def _write(
        self,
        k: int,
        weights: Tensor,
        values: tuple[Tensor, ...],
        shared: dict[str, Tensor],
        written: tuple[Written, ...],
    ) -> tuple[Written, ...]:
        """Add what block `k` writes; `values` are those of all blocks so far."""
        told = in_rows(values[k] @ self.folded.writes[k].tell)
        before = [block._replace(told=self.folded.turned(block.told)) for block in written]
        meets = [in_rows(value @ shared[f"meets_{j}_{k}"]) for j, value in enumerate(values)]
        eps = self.folded.blocks[k].norm4.eps
        scale = norm_scale(shared[f"variance_{k}"], meets, before, told, weights, eps)
        return *before, Written(told, weights, scale)


class MaskPart(nn.Module):
    """Codes of prompts to the logits of their three masks."""

    def __init__(self, folded: FoldedDecoder) -> None:
        super().__init__()
        self.folded = folded

    def forward(self, enlarged: Tensor, tokens: Tensor, *written: Tensor) -> Tensor:
        """Map `ENLARGED` and `CODES` to logits `[N, 3, 4 h, 4 w]`."""
        folded = self.folded
        first, second = Written(*written[:3]), Written(*written[3:])
        scale = first.scale * second.scale
        told = torch.cat([first.told, second.told], 2) @ folded.enlarge
        weights = torch.cat([first.weights * scale, second.weights * second.scale], 2)
        shared = reshape(enlarged, -1, WIDTH)
        image = shared * scale.transpose(2, 3) + weights.transpose(2, 3) @ told
        image = reshape(image + folded.enlarged_bias, -1, WIDTH // 4)
        rows, columns = enlarged.shape[:2]
        return folded.decoder.weigh(tokens, image, range(1, MASKS), rows, columns)


def split_mobile_sam(model: MobileSam) -> SplitDecoder:
    """Return MobileSAM's decoder in three parts, with its weights as they are now."""
    folded = FoldedDecoder(model)
    rows, cells = {2: "rows"}, {3: "cells"}  # rows are a prompt's tokens times heads
    open_axes = {"told": rows, "weights": {**rows, **cells}, "scale": cells, "tokens": {}}
    return SplitDecoder(
        frame=FramePart(folded),
        prompts=PromptPart(folded),
        masks=MaskPart(folded),
        shared=(*SHARED, ENLARGED),
        prompts_need=SHARED,
        masks_need=(ENLARGED,),
        codes={name: open_axes[name.split("_")[0]] for name in CODES},
        is_per_mask=False,
    )


def _variance(image: Tensor) -> Tensor:
    """Return the mean square of each cell of `[256, cells]`."""
    return (image * image).mean(0)


def _projected(what: str, block: int, shared: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """Return a projection of the frame's image with, after the first block, its cells' places."""
    names = f"{what}_{block}", f"{what}_place_{block}"
    return tuple(shared[name] for name in names if name in shared)
