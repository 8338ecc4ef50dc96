"""The prompt encoder and mask decoder of SAM 2's family with a bundle's signature."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from aopsam_ros.models.mobile_sam.mask_decoder import PADDING_BIAS
from aopsam_ros.models.mobile_sam.tiny_vit import EMBEDDING_CHANNELS


class MaskedAttention(nn.Module):
    """An attention of the authors whose keys are tokens, some of which are padding.

    It knows no padding: a bias keeps tokens out, so that a prompt means the same whatever it is
    batched with.
    """

    bias: Tensor  # `[N, 1, 1, T]`, set before each call

    def __init__(self, attention: Any) -> None:  # noqa: ANN401  (the authors' class)
        super().__init__()
        self.attention = attention

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from `[N, Q, C]` to tokens `[N, T, C]`."""
        theirs = self.attention
        heads = [
            theirs._separate_heads(projection(x), theirs.num_heads)
            for projection, x in ((theirs.q_proj, q), (theirs.k_proj, k), (theirs.v_proj, v))
        ]
        query, key, value = heads
        scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5) + self.bias
        return theirs.out_proj(theirs._recombine_heads(torch.softmax(scores, -1) @ value))


class ImageDecoder(nn.Module):
    """Prompt encoder and mask decoder with a bundle's signature; four masks, the single one first.

    As in the authors' predictor, a box is a prompt of two points and, as any other, ends with a
    token that is not a point. Padding is left out of the attention.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401  (the authors' class)
        super().__init__()
        self.prompts = model.sam_prompt_encoder
        self.decoder = model.sam_mask_decoder
        self.masked: list[MaskedAttention] = []
        for layer in self.decoder.transformer.layers:
            for name in ("self_attn", "cross_attn_image_to_token"):
                self.masked.append(MaskedAttention(getattr(layer, name)))
                setattr(layer, name, self.masked[-1])
        self.image_size = model.image_size
        self.fine_channels = fine_channels(self.decoder)
        self.register_buffer("image_position", self.prompts.get_dense_pe().detach())

    def forward(
        self,
        embedding: Tensor,
        coords: Tensor,
        labels: Tensor,
        mask_input: Tensor | None = None,
        has_mask_input: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decode N prompts of K points; as `PointDecoder`."""
        tokens, is_present = self._tokens(coords, labels)
        dense = self.prompts.no_mask_embed.weight.reshape(1, -1, 1, 1)
        if mask_input is not None and has_mask_input is not None:
            masks = self.prompts.mask_downscaling(mask_input)
            dense = dense + has_mask_input.reshape(-1, 1, 1, 1) * (masks - dense)
        else:
            dense = dense + tokens[:, 0, 0].reshape(-1, 1, 1, 1) * 0.0  # one for each prompt
        image, *finer = self._unfold(embedding)
        bias = ((1.0 - is_present) * PADDING_BIAS).unsqueeze(1).unsqueeze(1)
        for attention in self.masked:
            attention.bias = bias
        image = image + dense
        tokens, source = self.decoder.transformer(image, self.image_position, tokens)
        return self._masks(tokens, source.transpose(1, 2).reshape_as(image), finer)

    def _tokens(self, coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return output tokens and prompts `[N, T, 256]`, and 1 for each that is no padding."""
        decoder, prompts = self.decoder, self.prompts
        position = prompts.pe_layer._pe_encoding((coords + 0.5) / self.image_size)
        kinds = torch.stack([each.weight[0] for each in prompts.point_embeddings])
        numbers = torch.arange(len(kinds), dtype=labels.dtype)
        points = position + (labels.unsqueeze(-1) == numbers).to(position.dtype) @ kinds
        is_point = (labels >= 0).to(position.dtype)
        every = is_point[:, :1] * 0.0 + 1.0
        output = [decoder.iou_token.weight, decoder.mask_tokens.weight]
        if decoder.pred_obj_scores:
            output.insert(0, decoder.obj_score_token.weight)
        first = torch.cat(output)
        tokens = every.unsqueeze(-1) * torch.cat([first, prompts.not_a_point_embed.weight])
        ends, begins = tokens[:, len(first) :], tokens[:, : len(first)]
        is_present = torch.cat([every] * len(first) + [is_point, every], 1)
        return torch.cat([begins, points, ends], 1), is_present

    def _unfold(self, embedding: Tensor) -> Sequence[Tensor]:
        """Return the embedding proper, and the finer maps, finest first."""
        folded = [channels * factor**2 for channels, factor in self.fine_channels]
        image, *finer = embedding.split([EMBEDDING_CHANNELS, *folded], 1)
        pairs = zip(finer, self.fine_channels, strict=True)
        return image, *(F.pixel_shuffle(each, factor) for each, (_, factor) in pairs)

    def _masks(self, tokens: Tensor, image: Tensor, finer: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits `[N, 4, S/4, S/4]` and predicted IoU `[N, 4]`."""
        decoder = self.decoder
        first = 1 if decoder.pred_obj_scores else 0
        coarse, norm, gelu, fine, last = decoder.output_upscaling
        finest, finer_map = finer or (0.0, 0.0)
        upscaled = gelu(norm(coarse(image) + finer_map))
        upscaled = last(fine(upscaled) + finest)
        networks = decoder.output_hypernetworks_mlps
        weights = [network(tokens[:, first + 1 + i]) for i, network in enumerate(networks)]
        logits = torch.stack(weights, 1) @ upscaled.flatten(2)
        side = upscaled.shape[-1]
        iou = decoder.iou_prediction_head(tokens[:, first])
        return logits.reshape(-1, len(networks), side, side), iou


def fine_channels(decoder: Any) -> list[tuple[int, int]]:  # noqa: ANN401
    """Return channels of the finer maps, and their cells a side to one of the embedding."""
    if not decoder.use_high_res_features:
        return []
    return [(decoder.conv_s0.out_channels, 4), (decoder.conv_s1.out_channels, 2)]
