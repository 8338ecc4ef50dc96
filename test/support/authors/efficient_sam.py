"""EfficientSAM, as far as our wrapping uses the authors' modules; its encoder is a small one.

Attributes and tensors have the authors' names.
"""

import itertools

import torch
from torch import nn

from support.authors import sam2_modules as sam2
from support.authors.sam2_modules import WIDTH


class Perceptron(nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        *hidden, last = itertools.pairwise(sizes)
        layers = (nn.Sequential(nn.Linear(*pair), nn.GELU()) for pair in hidden)
        self.layers, self.fc = nn.ModuleList(layers), nn.Linear(*last)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.fc(x)


class Block(sam2.Block):
    def __init__(self, is_first):
        super().__init__(is_first)
        self.mlp = Perceptron(WIDTH, 2048, WIDTH)

    def among_tokens(self, tokens, position):
        tokens = tokens if self.is_first else tokens + position
        return tokens + self.self_attn(tokens, tokens, tokens)


class PromptEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.pe_layer = sam2.Position()
        self.invalid_points, self.point_embeddings = (nn.Embedding(1, WIDTH) for _ in range(2))
        corners = (nn.Embedding(1, WIDTH) for _ in range(2))
        self.bbox_top_left_embeddings, self.bbox_bottom_right_embeddings = corners

    def get_dense_pe(self):
        return self.pe_layer.of_cells()


class MaskDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.transformer = sam2.Transformer(Block)
        self.iou_token, self.mask_tokens = nn.Embedding(1, WIDTH), nn.Embedding(4, WIDTH)
        doubled = (
            nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 2, 2), norm, nn.GELU())
            for inputs, outputs, norm in (
                (WIDTH, 64, nn.GroupNorm(1, 64)),
                (64, 32, nn.Identity()),
            )
        )
        self.final_output_upscaling_layers = nn.ModuleList(doubled)
        networks = (Perceptron(WIDTH, WIDTH, WIDTH, 32) for _ in range(4))
        self.output_hypernetworks_mlps = nn.ModuleList(networks)
        self.iou_prediction_head = Perceptron(WIDTH, WIDTH, WIDTH, 4)

    def predict_masks(self, image_embeddings, image_pe, sparse_prompt_embeddings):
        output = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        output = output.expand(sparse_prompt_embeddings.shape[0], -1, -1)
        tokens = torch.cat([output, sparse_prompt_embeddings], 1)
        position = torch.repeat_interleave(image_pe, tokens.shape[0], dim=0)
        tokens, image = self.transformer(image_embeddings, position, tokens)
        image = image.transpose(1, 2).reshape(image_embeddings.shape)
        for layer in self.final_output_upscaling_layers:
            image = layer(image)
        networks = enumerate(self.output_hypernetworks_mlps, 1)
        weights = torch.stack([network(tokens[:, i]) for i, network in networks], 1)
        masks = (weights @ image.flatten(2)).reshape(-1, 4, *image.shape[2:])
        return masks, self.iou_prediction_head(tokens[:, 0])


class EfficientSam(nn.Module):
    decoder_max_num_input_points = 6

    def __init__(self, image_encoder):
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder, self.mask_decoder = PromptEncoder(), MaskDecoder()
