"""MobileSAM's shapes with random weights: a bundle, and the same weights for other programs.

Nothing is downloaded. A graph's time does not depend on its weights; which masks come out does.
So thresholds are set to let a known number through:

- The predictor's prompts are wherever its map is highest, PROMPTS of them; filtering is computed
  and drops none; each prompt's best mask is kept. AoP-SAM then delivers about PROMPTS masks.
- Of a 32 x 32 grid's 3,072 masks as many pass, by their predicted IoU.
- No mask suppresses another.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from aopsam_benchmarks.part import benchmark_image, parse_size
from aopsam_ros.geometry import preprocess
from aopsam_ros.models.efficientnet_lite import IMAGENET_MEAN, IMAGENET_STD
from aopsam_ros.models.export import export_bundle, mobile_sam_parts
from aopsam_ros.models.mobile_sam.model import IMAGE_SIZE, MobileSam, PointDecoder
from aopsam_ros.models.mobile_sam.tiny_vit import EMBEDDING_CHANNELS
from aopsam_ros.models.prompt_predictor import PromptPredictor
from aopsam_ros.prompting.grid import grid_points

NAME = "mobile_sam_random"
PROMPTS = 64
GRID_MASKS = 3 * 32 * 32
SAMPLE_SIDE = 8  # of the grid that the thresholds are found with
IOU_MEAN, IOU_DEVIATION = 0.4, 0.15  # of the predicted IoU: nearly all of it in 0-1
WEIGHTS = "weights.pt"


def main() -> None:
    """Write `--out`/bundle and `--out`/weights.pt."""
    parser = argparse.ArgumentParser(description="export MobileSAM with random weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", default="1280x720", help="of the image the thresholds suit")
    arguments = parser.parse_args()
    write(arguments.out, benchmark_image(*parse_size(arguments.size)))


def write(folder: Path, rgb: np.ndarray, image_size: int = IMAGE_SIZE) -> None:
    """Make the model, set its thresholds on an image, export it and save its weights."""
    torch.manual_seed(0)
    model, predictor = MobileSam(image_size), PromptPredictor(EMBEDDING_CHANNELS)
    for part in (model, predictor):
        smooth_kernels(part)
    model.eval()  # only now: the encoder keeps copies of some weights from this call
    with torch.no_grad():
        iou = spread_predicted_iou(model, rgb)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), folder / WEIGHTS)
    facts = {
        "name": NAME,
        "version": "1",
        "licence": "Apache-2.0",
        "provenance": "random weights, for measuring times",
        "defaults": defaults(iou),
    }
    export_bundle(mobile_sam_parts(model, predictor), folder / "bundle", facts)


def smooth_kernels(model: nn.Module) -> None:
    """Let every kernel average its window: masks then have outlines of a natural length."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and max(module.kernel_size) > 1:
            kernel = module.weight.data
            mean = kernel.mean((2, 3), keepdim=True)
            module.weight.data = mean.expand_as(kernel) * kernel.shape[2]


def spread_predicted_iou(model: MobileSam, rgb: np.ndarray) -> Tensor:
    """Scale the last layer of the IoU head, so that thresholds in 0-1 separate masks.

    Returns:
        predicted IoU of the three masks of each point of a small grid, `[N, 3]`.
    """
    image = preprocess(rgb, model.image_size, IMAGENET_MEAN, IMAGENET_STD)
    points = image.geometry.to_resized(grid_points(SAMPLE_SIDE, *rgb.shape[:2]))
    embedding = model.image_encoder(torch.from_numpy(image.tensor))
    prompts = torch.from_numpy(points).unsqueeze(1), torch.ones(len(points), 1)
    before = PointDecoder(model)(embedding, *prompts)[1][:, 1:]  # without SAM's single mask
    factor = IOU_DEVIATION / before.std()
    last = model.mask_decoder.iou_prediction_head.layers[-1]
    last.weight.data *= factor
    last.bias.data = (last.bias.data - before.mean()) * factor + IOU_MEAN
    return (before - before.mean()) * factor + IOU_MEAN


def defaults(iou: Tensor) -> dict[str, dict[str, object]]:
    """Return the options of bundle.yaml; see the module."""
    passing = float(torch.quantile(iou, 1.0 - PROMPTS / GRID_MASKS))
    all_pass = {"stability_threshold": 0.0, "overlap_threshold": 1.0, "min_area": 0}
    return {
        "asf": {
            "confidence_threshold": 0.0,
            "sampling": "fill",
            "max_prompts": PROMPTS,
            "filtering": "paper",
            "elimination_threshold": 10.0,
        },
        "mask": {"predicted_iou_threshold": 0.0, **all_pass},
        "grid": {"predicted_iou_threshold": min(1.0, max(0.0, round(passing, 4))), **all_pass},
    }


if __name__ == "__main__":
    main()
