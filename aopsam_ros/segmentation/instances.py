"""From a frame's decoded masks to its instances: overlaps, parents, cleaning, full resolution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.masks.cleaning import clean_logits
from aopsam_ros.masks.hierarchy import find_hierarchy
from aopsam_ros.masks.merging import merge
from aopsam_ros.masks.suppression import SUPPRESSION
from aopsam_ros.masks.upscaling import Upscaler
from aopsam_ros.options import MaskOptions
from aopsam_ros.results import InstanceMask
from aopsam_ros.segmentation.decoding_loop import DecodedPrompts


def build_instances(
    decoded: DecodedPrompts, geometry: FrameGeometry, options: MaskOptions
) -> tuple[tuple[InstanceMask, ...], NDArray[np.int64]]:
    """Resolve overlaps, upscale each mask that is left inside its box, and encode it.

    Returns:
        the masks by descending area (the better of equals first), numbered from 1, and the prompts
        that had a part in them, int64 `[k]`.
    """
    masks, prompts = decoded.masks, decoded.prompts
    low_size, threshold = masks.logits.shape[-1], options.overlap_threshold
    valid = geometry.valid_cells(low_size)
    binary = masks.binary(*valid)
    members: list[NDArray[np.int64]]
    if options.combine == "merge":
        masks, members = merge(masks, binary, threshold)
        binary = masks.binary(*valid)
    else:
        rank = np.where(masks.strong, masks.score, masks.score - 2.0)  # no strong one gives way
        kept = SUPPRESSION[options.combine](binary, rank, threshold)
        masks, binary = masks.take(kept), binary[kept]
        members = list(masks.prompt[:, None])
    cleaned = clean_logits(masks.logits, geometry, options)
    if cleaned is not masks.logits:  # what lies in one another does so as it is shown
        masks = replace(masks, logits=cleaned)
        binary = masks.binary(*valid)
    tree, granularity = find_hierarchy(binary), options.granularity
    holders = tree.holders
    # Not of `parts`: what is too small to be kept is no part of the mask that it lies in.
    chosen = tree.of_granularity("objects" if granularity == "objects" else "all")
    logits = masks.logits if len(chosen) == len(masks) else masks.logits[chosen]  # no copy of all
    encoded = dict(zip(chosen.tolist(), Upscaler(geometry, low_size)(logits), strict=True))
    large = [row for row, mask in encoded.items() if mask.area >= max(1, options.min_area)]
    large.sort(key=lambda row: -encoded[row].area)
    tree = tree.take(np.array(large, np.int64))
    chosen = tree.of_granularity(granularity)
    shown, tree = [large[place] for place in chosen], tree.take(chosen)
    number = {row: index for index, row in enumerate(shown, 1)}
    instances = []
    for index, row in enumerate(shown):
        prompt = masks.prompt[row]
        x, y = prompts.points[prompt].tolist()
        instances.append(
            InstanceMask(
                id=index + 1,
                bbox=encoded[row].bbox,
                area=encoded[row].area,
                predicted_iou=float(masks.predicted_iou[row]),
                stability_score=float(masks.stability[row]),
                prompt=(x, y),
                prompt_confidence=float(prompts.confidence[prompt]),
                label="",
                counts=encoded[row].counts,
                score=float(masks.score[row]),
                parent=int(tree.parent[index]) + 1,
                level=int(tree.level[index]),
                strong=bool(masks.strong[row]),
                holders=tuple(number[holder] for holder in holders[row] if holder in number),
                merged_prompts=tuple(map(tuple, prompts.points[members[row]].tolist())),
            )
        )
    prompted = [np.zeros(0, np.int64), *(members[row] for row in shown)]
    return tuple(instances), np.concatenate(prompted)
