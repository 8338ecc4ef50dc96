"""Times MobileSAM's own automatic mask generator, as its authors published it: `mobile_sam`.

This project does not ship that package: a folder that holds it is named on the command line. What
it imports (timm, torchvision) has to be installed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch


def main() -> None:
    """Time `--runs` images; write seconds and masks to `--out`."""
    arguments = _arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    sys.path.insert(0, str(arguments.package))
    from mobile_sam import SamAutomaticMaskGenerator, sam_model_registry

    model = sam_model_registry["vit_t"]()
    model.load_state_dict(torch.load(arguments.weights, weights_only=True), strict=True)
    generator = SamAutomaticMaskGenerator(
        model.eval(),  # again: the encoder keeps copies of some weights from this call
        points_per_side=arguments.grid,
        pred_iou_thresh=arguments.predicted_iou,
        stability_score_thresh=arguments.stability,
        box_nms_thresh=arguments.overlap,
    )
    rgb = np.load(arguments.image)
    seconds, masks = [], []
    for _ in range(arguments.runs):
        began = time.perf_counter()
        masks = generator.generate(rgb)
        seconds.append(time.perf_counter() - began)
    found = sum(mask["area"] > 0 for mask in masks)  # it also returns masks without a pixel
    facts = {"seconds": seconds, "masks": found, "torch": torch.__version__}
    arguments.out.write_text(json.dumps(facts), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="time the official automatic mask generator")
    for name in ("--package", "--weights", "--image", "--out"):
        parser.add_argument(name, type=Path, required=True)
    for name in ("--predicted-iou", "--stability", "--overlap"):
        parser.add_argument(name, type=float, required=True)
    parser.add_argument("--grid", type=int, default=32)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
