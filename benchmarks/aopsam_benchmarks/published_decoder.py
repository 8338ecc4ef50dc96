"""Exports the published mask decoder, by its own modules, as a bundle's decoder.

So the grid can be timed with it in any engine, as users of exported decoders run it: nothing of
this project's arithmetic is in the graph. Runs in a Python of its own, as `official` does.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from aopsam_benchmarks.official import load_model

OPSET = 17
PROMPTS = {0: "prompts"}
DYNAMIC = {
    "point_coords": {**PROMPTS, 1: "points"},
    "point_labels": {**PROMPTS, 1: "points"},
    "low_res_logits": PROMPTS,
    "predicted_iou": PROMPTS,
}


def main() -> int:
    """Write the graph to `--out`."""
    parser = argparse.ArgumentParser(description="export the published mask decoder")
    for name in ("--package", "--weights", "--out"):
        parser.add_argument(name, type=Path, required=True)
    arguments = parser.parse_args()
    export(PublishedDecoder(load_model(arguments.package, arguments.weights)), arguments.out)
    return 0


class PublishedDecoder(nn.Module):
    """The published prompt encoder and mask decoder, points in and three masks out."""

    position: Tensor
    no_mask: Tensor

    def __init__(self, model: Any) -> None:  # noqa: ANN401  (the package's type)
        super().__init__()
        from mobile_sam.utils.onnx import SamOnnxModel

        self.points = SamOnnxModel(model, return_single_mask=False)
        self.decoder = model.mask_decoder
        encoder = model.prompt_encoder
        self.register_buffer("position", encoder.get_dense_pe().detach())
        self.register_buffer("no_mask", encoder.no_mask_embed.weight.detach().reshape(1, -1, 1, 1))

    def forward(self, embedding: Tensor, coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Decode N prompts of K points, each ended by one that is not a point."""
        coords = torch.cat([coords, torch.zeros_like(coords[:, :1])], 1)
        labels = torch.cat([labels, -torch.ones_like(labels[:, :1])], 1)
        masks, iou = self.decoder(
            image_embeddings=embedding,
            image_pe=self.position,
            sparse_prompt_embeddings=self.points._embed_points(coords, labels),
            dense_prompt_embeddings=self.no_mask,
            multimask_output=True,
        )
        return masks, iou


def export(decoder: PublishedDecoder, file: Path) -> None:
    """Write the graph, for any number of prompts."""
    side = decoder.position.shape[-1]
    samples = (torch.zeros(1, 256, side, side), torch.zeros(2, 1, 2), torch.ones(2, 1))
    repeated = mock.patch.object(torch, "repeat_interleave", _expanded)
    with torch.no_grad(), repeated, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the newer exporter, whose graphs are slower
        torch.onnx.export(
            decoder.eval(),
            samples,
            str(file),
            input_names=["embedding", "point_coords", "point_labels"],
            output_names=["low_res_logits", "predicted_iou"],
            dynamic_axes=DYNAMIC,
            opset_version=OPSET,
            dynamo=False,
        )


def _expanded(image: Tensor, repeats: int, dim: int) -> Tensor:
    """Repeat `[1, ...]`; the package's own way would fix the number of prompts in the graph."""
    return image.expand(*(repeats if i == dim else -1 for i in range(image.dim())))


if __name__ == "__main__":
    sys.exit(main())
