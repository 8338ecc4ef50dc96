"""MobileSAM's mask decoder in three parts: for each frame, each prompt and each rendered prompt.

Its weights and results are those of the whole decoder; see `low_rank` for the arithmetic.
"""

import torch
from torch import Tensor, nn

from aopsam_ros.models.decoder_parts import DecoderParts, Tensors
from aopsam_ros.models.mobile_sam.attention import WIDTH
from aopsam_ros.models.mobile_sam.folding import FoldedImageToToken, FoldedTokenToImage, affine
from aopsam_ros.models.mobile_sam.layers import reshape
from aopsam_ros.models.mobile_sam.low_rank import (
    LowRankUpdate,
    centred,
    merge_rank,
    norm_scale,
    project,
)
from aopsam_ros.models.mobile_sam.mask_decoder import MASKS, double_weights
from aopsam_ros.models.mobile_sam.model import Sam

# What the frame part gives, by block: projected features of the frame (values `[8, cells, 16]`,
# keys `[8, 16, cells]`, queries `[8, 17, cells]`, after the first block with their position
# biases), their mean square `[cells]`, and `cross_j_k`: in block k, their products with the value
# projection of block j, `[8, 17, cells]`.
FRAME_TENSORS = (
    "value_0", "key_0", "query_0", "variance_0", "cross_0_0",
    "value_1", "key_1", "key_position_1", "query_1", "query_position_1", "variance_1",
    "cross_0_1", "cross_1_1",
    "value_2", "key_2", "key_position_2",
)  # fmt: skip
UPSCALED = "upscaled"  # the frame's features before the first norm of the upscaling, `[h, w, 256]`
# What masks are rendered from: a prompt's mask tokens `[N, 4, 256]`, and its `LowRankUpdate`s.
MASK_WEIGHTS = (
    "tokens", "values_0", "weights_0", "scale_0", "values_1", "weights_1", "scale_1",
)  # fmt: skip
Updates = tuple[LowRankUpdate, ...]


class FoldedDecoder(nn.Module):
    """The weights of the three parts."""

    gain: Tensor
    upscale_weight: Tensor
    upscale_bias: Tensor

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.prompt_encoder, self.decoder = model.prompt_encoder, model.mask_decoder
        transformer = model.mask_decoder.transformer
        self.blocks = transformer.layers
        norms = [None, *(block.norm4 for block in self.blocks)]
        side = model.mask_decoder.side
        position = model.prompt_encoder.image_position().detach().reshape(side, side, -1)
        attentions = [block.cross_attn_token_to_image for block in self.blocks]
        attentions.append(transformer.final_attn_token_to_image)
        self.token_to_image = nn.ModuleList(
            FoldedTokenToImage(attention, norm, position)
            for attention, norm in zip(attentions, norms, strict=True)
        )
        self.image_to_token = nn.ModuleList(
            FoldedImageToToken(block.cross_attn_image_to_token, norm, position)
            for block, norm in zip(self.blocks, norms, strict=False)
        )
        self.register_buffer("gain", affine(norms[1], position)[0])
        gain, shift = affine(norms[2], position)
        weight, bias = double_weights(self.decoder.output_upscaling[0])
        self.register_buffer("upscale_weight", (weight * gain).detach().T)
        self.register_buffer("upscale_bias", (weight @ shift + bias).detach())

    def to_second_block(self, x: Tensor) -> Tensor:
        """Apply the gain of the first block's norm to vectors `[..., 256]`; centre them again."""
        return centred(x * self.gain)


class FramePart(nn.Module):
    """The embedding to `FRAME_TENSORS`, which all prompts of a frame share."""

    def __init__(self, folded: FoldedDecoder) -> None:
        super().__init__()
        self.folded = folded

    def forward(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """Map `[1, 256, h, w]` to `FRAME_TENSORS` and `UPSCALED`."""
        folded, to_second_block = self.folded, self.folded.to_second_block
        reads, writes = folded.token_to_image, folded.image_to_token
        image = embedding.reshape(WIDTH, -1) + folded.prompt_encoder.no_mask_embed.weight.T
        first = *reads[0].project(image, embedding), *writes[0].queries.project(image, embedding)
        image = centred(image, 0)
        first = *first, _variance(image), writes[0].cross_products(image)
        second = *reads[1].project(image, embedding), *writes[1].queries.project(image, embedding)
        image = to_second_block(image.T).T
        cross = project(to_second_block(writes[0].value_proj), image) / WIDTH
        second = *second, _variance(image), cross, writes[1].cross_products(image)
        upscaled = (image.T @ folded.upscale_weight).reshape(*embedding.shape[2:], WIDTH)
        return *first, *second, *reads[2].project(image, embedding), upscaled


class PromptPart(nn.Module):
    """Prompts to their predicted IoU and what their masks are rendered from."""

    def __init__(self, folded: FoldedDecoder) -> None:
        super().__init__()
        self.folded = folded

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Map `FRAME_TENSORS`, coordinates `[N, K, 2]` and labels `[N, K]`.

        Returns:
            Predicted IoU `[N, 4]` and `MASK_WEIGHTS`.
        """
        *tensors, coords, labels = inputs
        frame = dict(zip(FRAME_TENSORS, tensors, strict=True))
        folded, decoder = self.folded, self.folded.decoder
        position, padding_bias = decoder.tokens(*folded.prompt_encoder(coords, labels))
        tokens = position
        updates: Updates = ()
        values: tuple[Tensor, ...] = ()
        for k, block in enumerate(folded.blocks):
            tokens = block.self_attend(tokens, position, padding_bias.unsqueeze(1).unsqueeze(1))
            attended = self._attend_to_image(k, tokens + position, frame, updates)
            tokens = block.update_tokens(tokens, attended)
            weights, value = folded.image_to_token[k](
                tokens + position, tokens, padding_bias, _projected("query", k, frame), updates
            )
            values = *values, value
            updates = self._add_update(k, weights, values, frame, updates)
        attended = self._attend_to_image(len(updates), tokens + position, frame, updates)
        tokens = decoder.transformer.norm_final_attn(tokens + attended)
        iou = decoder.iou_prediction_head(tokens[:, 0])
        return iou, tokens[:, 1 : 1 + MASKS], *(x for update in updates for x in update)

    def _attend_to_image(
        self, k: int, positioned: Tensor, frame: Tensors, updates: Updates
    ) -> Tensor:
        key = _projected("key", k, frame)
        return self.folded.token_to_image[k](positioned, frame[f"value_{k}"], key, updates)

    def _add_update(
        self, k: int, weights: Tensor, values: tuple[Tensor, ...], frame: Tensors, updates: Updates
    ) -> Updates:
        """Add the update of block `k`; `values` are those of all blocks so far."""
        folded = self.folded
        vectors = merge_rank(values[k] @ folded.image_to_token[k].value_proj)
        before = [u._replace(values=folded.to_second_block(u.values)) for u in updates]
        cross = [merge_rank(value @ frame[f"cross_{j}_{k}"]) for j, value in enumerate(values)]
        eps = folded.blocks[k].norm4.eps
        scale = norm_scale(frame[f"variance_{k}"], cross, before, vectors, weights, eps)
        return *before, LowRankUpdate(vectors, weights, scale)


class MaskPart(nn.Module):
    """Rendering of each prompt's masks."""

    def __init__(self, folded: FoldedDecoder) -> None:
        super().__init__()
        self.folded = folded

    def forward(self, upscaled: Tensor, tokens: Tensor, *updates: Tensor) -> Tensor:
        """Map `UPSCALED` and `MASK_WEIGHTS` to logits `[N, 4, 4 h, 4 w]`."""
        folded = self.folded
        first, second = LowRankUpdate(*updates[:3]), LowRankUpdate(*updates[3:])
        scale = first.scale * second.scale
        values = torch.cat([first.values, second.values], 2) @ folded.upscale_weight
        weights = torch.cat([first.weights * scale, second.weights * second.scale], 2)
        frame = reshape(upscaled, -1, WIDTH)
        image = frame * scale.transpose(2, 3) + weights.transpose(2, 3) @ values
        image = reshape(image + folded.upscale_bias, -1, WIDTH // 4)
        rows, columns = upscaled.shape[:2]
        return folded.decoder.render_masks(tokens, image, rows, columns)


def split_mobile_sam(model: Sam) -> DecoderParts:
    """Return SAM's decoder in three parts, with its weights as they are now."""
    folded = FoldedDecoder(model)
    rank, cells = {2: "rank"}, {3: "cells"}  # the rank is the number of tokens times heads
    axes = {"values": rank, "weights": {**rank, **cells}, "scale": cells, "tokens": {}}
    return DecoderParts(
        frame=FramePart(folded),
        prompts=PromptPart(folded),
        masks=MaskPart(folded),
        frame_tensors=(*FRAME_TENSORS, UPSCALED),
        prompt_tensors=FRAME_TENSORS,
        mask_tensors=(UPSCALED,),
        mask_weights={name: axes[name.split("_")[0]] for name in MASK_WEIGHTS},
        is_per_mask=False,
    )


def _variance(image: Tensor) -> Tensor:
    """Return the mean square of each cell of `[256, cells]`."""
    return (image * image).mean(0)


def _projected(what: str, block: int, frame: Tensors) -> tuple[Tensor, ...]:
    """Return projected features of the frame and, after the first block, their position bias."""
    names = f"{what}_{block}", f"{what}_position_{block}"
    return tuple(frame[name] for name in names if name in frame)
