"""The same prompts put to our wrapping of SAM 2's decoder and to the decoder itself.

The tests wrap the modules below, which have what the wrapping uses of the authors' modules, under
the same names. As a program, which needs the authors' package `sam2`, this writes their answers:

    PYTHONPATH=test python -m support.sam2_cases
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from support.random_weights import random_state, uniform

REFERENCE = Path(__file__).parents[1] / "models" / "sam2_reference.npz"
WIDTH, HEADS, SIDE = 256, 8, 4
SIZE = 16 * SIDE
SAMPLES = 150  # values of each answer that are stored


def tensor(name, *shape, low=-1.0, high=1.0):
    return torch.from_numpy(uniform(name, shape, low, high))


EMBEDDING = tensor("e", 1, WIDTH, SIDE, SIDE)
FINER = (tensor("s0", 1, 32, 4 * SIDE, 4 * SIDE), tensor("s1", 1, 64, 2 * SIDE, 2 * SIDE))
MASK = tensor("mask", 2, 1, 4 * SIDE, 4 * SIDE, low=-10.0, high=10.0)
# Coordinates, labels, and a mask to start from.
PROMPTS = {
    "point": (tensor("p", 2, 1, 2, low=0, high=SIZE), torch.ones(2, 1), None),
    "box": (tensor("b", 2, 2, 2, low=0, high=SIZE), torch.tensor([[2.0, 3.0]] * 2), None),
    "points": (tensor("ps", 2, 3, 2, low=0, high=SIZE), torch.tensor([[1.0, 0, 1]] * 2), None),
    "masked": (tensor("m", 2, 1, 2, low=0, high=SIZE), torch.ones(2, 1), MASK),
}


def folded_embedding():
    """The embedding of a bundle: finer maps as further channels."""
    finest, finer = FINER
    return torch.cat([EMBEDDING, F.pixel_unshuffle(finest, 4), F.pixel_unshuffle(finer, 2)], 1)


def with_random_weights(prompt_encoder, mask_decoder):
    """Return a model of these parts, as far as a decoder's wrapping looks at it."""
    for part in (prompt_encoder, mask_decoder):
        shapes = {name: tuple(value.shape) for name, value in part.state_dict().items()}
        state = {name: torch.from_numpy(v) for name, v in random_state(shapes).items()}
        part.load_state_dict(state)
        part.eval()
    return SimpleNamespace(
        sam_prompt_encoder=prompt_encoder, sam_mask_decoder=mask_decoder, image_size=SIZE
    )


def sampled(name, answer):
    values = answer.detach().numpy().ravel()
    return values[(uniform(name, (SAMPLES,)) * values.size).astype(int)]


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
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in zip(sizes, sizes[1:]))  # noqa: B905
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
        if self.is_first:
            tokens = self.norm1(self.self_attn(tokens, tokens, tokens))
        else:
            positioned = tokens + position
            tokens = self.norm1(tokens + self.self_attn(positioned, positioned, tokens))
        attended = self.cross_attn_token_to_image(tokens + position, image + image_position, image)
        tokens = self.norm2(tokens + attended)
        tokens = self.norm3(tokens + self.mlp(tokens))
        update = self.cross_attn_image_to_token(image + image_position, tokens + position, tokens)
        return tokens, self.norm4(image + update)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Block(True), Block(False)])
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
        across = ((torch.arange(SIDE) + 0.5) / SIDE).expand(SIDE, SIDE)
        return self.pe_layer._pe_encoding(torch.stack([across, across.T], -1)).permute(2, 0, 1)[
            None
        ]


class MaskDecoder(nn.Module):
    pred_obj_scores = use_high_res_features = True

    def __init__(self):
        super().__init__()
        self.transformer = Transformer()
        self.iou_token, self.obj_score_token = (nn.Embedding(1, WIDTH) for _ in range(2))
        self.mask_tokens = nn.Embedding(4, WIDTH)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(WIDTH, 64, 2, 2), ChannelNorm(64), nn.GELU(),
            nn.ConvTranspose2d(64, 32, 2, 2), nn.GELU(),
        )  # fmt: skip
        self.conv_s0, self.conv_s1 = nn.Conv2d(WIDTH, 32, 1), nn.Conv2d(WIDTH, 64, 1)
        networks = (Perceptron(WIDTH, WIDTH, WIDTH, 32) for _ in range(4))
        self.output_hypernetworks_mlps = nn.ModuleList(networks)
        self.iou_prediction_head = Perceptron(WIDTH, WIDTH, WIDTH, 4, last=nn.Sigmoid)
        self.pred_obj_score_head = Perceptron(WIDTH, WIDTH, WIDTH, 1)


def main():
    from sam2.modeling.sam.mask_decoder import MaskDecoder as TheirDecoder
    from sam2.modeling.sam.prompt_encoder import PromptEncoder as TheirEncoder
    from sam2.modeling.sam.transformer import TwoWayTransformer

    transformer = TwoWayTransformer(depth=2, embedding_dim=WIDTH, num_heads=HEADS, mlp_dim=2048)
    decoder = TheirDecoder(
        transformer_dim=WIDTH,
        transformer=transformer,
        use_high_res_features=True,
        iou_prediction_use_sigmoid=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
    )
    encoder = TheirEncoder(WIDTH, (SIDE, SIDE), (SIZE, SIZE), 16)
    model = with_random_weights(encoder, decoder)
    ours = with_random_weights(PromptEncoder(), MaskDecoder())
    for part in ("sam_prompt_encoder", "sam_mask_decoder"):
        names = [set(getattr(each, part).state_dict()) for each in (model, ours)]
        assert names[0] == names[1]
    stored = {}
    for name, (coords, labels, mask) in PROMPTS.items():
        with torch.no_grad():
            sparse, dense = encoder(points=(coords, labels), boxes=None, masks=mask)
            answers = decoder.predict_masks(
                EMBEDDING, encoder.get_dense_pe(), sparse, dense, True, list(FINER)
            )
        for part, answer in zip(("logits", "iou"), answers[:2], strict=True):
            stored[f"{name}_{part}"] = sampled(f"{name}_{part}", answer)
            print(f"{name}_{part}: standard deviation {stored[f'{name}_{part}'].std():.3g}")
    np.savez_compressed(REFERENCE, **stored)


if __name__ == "__main__":
    main()
