"""SAM 2's prompt encoder and mask decoder, as far as our wrapping uses the authors' modules.

Attributes and tensors have the authors' names. The image encoder is a small one for both.
"""

import itertools

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

WIDTH, HEADS, SIDE = 256, 8, 4  # channels, heads, cells of a side of the embedding


class ChannelNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.zeros(channels)) for _ in range(2))

    def forward(self, x):
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-6)
        return x.permute(0, 3, 1, 2)


class Perceptron(nn.Module):
    def __init__(self, *sizes, last=nn.Identity):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(sizes))
        self.last = last()

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.last(self.layers[-1](x))


class Attention(nn.Module):
    def __init__(self, inner=WIDTH):
        super().__init__()
        self.num_heads = HEADS
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(WIDTH, inner) for _ in range(3))
        self.out_proj = nn.Linear(inner, WIDTH)

    def _separate_heads(self, x, heads):
        return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)

    def _recombine_heads(self, x):
        return x.transpose(1, 2).flatten(2)

    def forward(self, q, k, v):
        pairs = (self.q_proj, q), (self.k_proj, k), (self.v_proj, v)
        heads = [self._separate_heads(projection(x), HEADS) for projection, x in pairs]
        return self.out_proj(self._recombine_heads(F.scaled_dot_product_attention(*heads)))


class Block(nn.Module):
    def __init__(self, is_first):
        super().__init__()
        self.is_first = is_first
        self.self_attn = Attention()
        self.cross_attn_token_to_image = Attention(WIDTH // 2)
        self.cross_attn_image_to_token = Attention(WIDTH // 2)
        self.mlp = Perceptron(WIDTH, 2048, WIDTH)
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(WIDTH) for _ in range(4))

    def forward(self, tokens, image, position, image_position):
        tokens = self.norm1(self.among_tokens(tokens, position))
        attended = self.cross_attn_token_to_image(tokens + position, image + image_position, image)
        tokens = self.norm2(tokens + attended)
        tokens = self.norm3(tokens + self.mlp(tokens))
        update = self.cross_attn_image_to_token(image + image_position, tokens + position, tokens)
        return tokens, self.norm4(image + update)

    def among_tokens(self, tokens, position):
        if self.is_first:
            return self.self_attn(tokens, tokens, tokens)
        positioned = tokens + position
        return tokens + self.self_attn(positioned, positioned, tokens)


class Transformer(nn.Module):
    def __init__(self, block=Block):
        super().__init__()
        self.layers = nn.ModuleList([block(True), block(False)])
        self.final_attn_token_to_image = Attention(WIDTH // 2)
        self.norm_final_attn = nn.LayerNorm(WIDTH)

    def forward(self, image, image_position, position):
        image, image_position = (x.flatten(2).transpose(1, 2) for x in (image, image_position))
        tokens = position
        for layer in self.layers:
            tokens, image = layer(tokens, image, position, image_position)
        keys = image + image_position
        attended = self.final_attn_token_to_image(tokens + position, keys, image)
        return self.norm_final_attn(tokens + attended), image


class Position(nn.Module):
    def __init__(self):
        super().__init__()
        matrix = torch.zeros(2, WIDTH // 2)
        self.register_buffer("positional_encoding_gaussian_matrix", matrix)

    def _pe_encoding(self, places):
        phase = 2 * np.pi * ((2 * places - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([phase.sin(), phase.cos()], -1)

    def of_cells(self):
        across = ((torch.arange(SIDE) + 0.5) / SIDE).expand(SIDE, SIDE)
        encoded = self._pe_encoding(torch.stack([across, across.T], -1))
        return encoded.permute(2, 0, 1)[None]


class PromptEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.pe_layer = Position()
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, WIDTH) for _ in range(4))
        self.not_a_point_embed, self.no_mask_embed = (nn.Embedding(1, WIDTH) for _ in range(2))
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, 2), ChannelNorm(4), nn.GELU(),
            nn.Conv2d(4, 16, 2, 2), ChannelNorm(16), nn.GELU(), nn.Conv2d(16, WIDTH, 1),
        )  # fmt: skip

    def get_dense_pe(self):
        return self.pe_layer.of_cells()


class MaskDecoder(nn.Module):
    pred_obj_scores = True

    def __init__(self, has_finer_maps=True):
        super().__init__()
        self.use_high_res_features = has_finer_maps
        self.transformer = Transformer()
        self.iou_token, self.obj_score_token = (nn.Embedding(1, WIDTH) for _ in range(2))
        self.mask_tokens = nn.Embedding(4, WIDTH)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(WIDTH, 64, 2, 2), ChannelNorm(64), nn.GELU(),
            nn.ConvTranspose2d(64, 32, 2, 2), nn.GELU(),
        )  # fmt: skip
        if has_finer_maps:
            self.conv_s0, self.conv_s1 = nn.Conv2d(WIDTH, 32, 1), nn.Conv2d(WIDTH, 64, 1)
        networks = (Perceptron(WIDTH, WIDTH, WIDTH, 32) for _ in range(4))
        self.output_hypernetworks_mlps = nn.ModuleList(networks)
        self.iou_prediction_head = Perceptron(WIDTH, WIDTH, WIDTH, 4, last=nn.Sigmoid)
        self.pred_obj_score_head = Perceptron(WIDTH, WIDTH, WIDTH, 1)


class Trunk(nn.Module):
    """A position of its own for each size of the image, as Hiera has it."""

    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, WIDTH, 4, 4)
        self.pos_embed = nn.Parameter(torch.zeros(1, WIDTH, 3, 3))

    def _get_pos_embed(self, sides):
        return F.interpolate(self.pos_embed, sides, mode="bicubic").permute(0, 2, 3, 1)

    def forward(self, image):
        found = self.patch_embed.proj(image)
        return found + self._get_pos_embed(found.shape[-2:]).permute(0, 3, 1, 2)


class ImageEncoder(nn.Module):
    """Maps of 4, 8 and 16 pixels a cell, in place of trunk and neck of the authors."""

    def __init__(self):
        super().__init__()
        self.trunk = Trunk()
        self.neck = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 2, 2) for _ in range(2))
        self.neck.d_model = WIDTH

    def forward(self, image):
        maps = [self.trunk(image)]
        for half in self.neck:
            maps.append(half(maps[-1]))
        return {"backbone_fpn": maps, "vision_pos_enc": [0.0 * each for each in maps]}


class Sam2(nn.Module):
    """The image path of a model."""

    image_size, directly_add_no_mem_embed = 16 * SIDE, True

    def __init__(self, has_finer_maps=True):
        super().__init__()
        self.num_feature_levels = 3 if has_finer_maps else 1
        self.image_encoder = ImageEncoder()
        self.sam_prompt_encoder = PromptEncoder()
        self.sam_mask_decoder = MaskDecoder(has_finer_maps)
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, WIDTH))

    def forward_image(self, image):
        found = self.image_encoder(image)
        if self.num_feature_levels > 1:
            maps, decoder = found["backbone_fpn"], self.sam_mask_decoder
            maps[:2] = decoder.conv_s0(maps[0]), decoder.conv_s1(maps[1])
        return found
