"""The masks that survived, at the source's resolution, encoded and in order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.merging import Combined
from aopsam_ros.masks.rle import EncodedMask
from aopsam_ros.masks.selection import LowResMasks
from aopsam_ros.masks.upscaling import Upscaler
from aopsam_ros.results import InstanceMask


def describe_survivors(
    combined: Combined,
    anchors: NDArray[np.float64],
    confidence: NDArray[np.float32],
    upscale: Upscaler,
    min_area: int,
) -> tuple[tuple[InstanceMask, ...], NDArray[np.int64]]:
    """Upscale each mask inside its box and encode it.

    Args:
        combined: after suppression or merging, by descending score.
        anchors: each prompt's point, source pixels `[N, 2]`.
        confidence: each prompt's confidence `[N]`.
        upscale: of the frame's geometry.
        min_area: smaller masks are left out, source pixels; empty ones always are.

    Returns:
        the masks by descending area (the better of equals first), numbered from 1, and the prompts
        that had a part in them, int64 `[k]`.
    """
    masks = combined.masks
    described: list[InstanceMask] = []
    useful = [np.zeros(0, np.int64)]
    encoded = upscale(masks.logits)
    for index, prompt in enumerate(masks.prompt.tolist()):
        mask = _describe(masks, index, anchors[prompt], float(confidence[prompt]), encoded[index])
        if mask.area >= max(1, min_area):
            described.append(mask)
            useful.append(combined.prompts[index])
    described.sort(key=lambda mask: -mask.area)
    numbered = tuple(replace(mask, id=i) for i, mask in enumerate(described, start=1))
    return numbered, np.concatenate(useful)


def _describe(
    masks: LowResMasks,
    index: int,
    anchor: NDArray[np.float64],
    confidence: float,
    encoded: EncodedMask,
) -> InstanceMask:
    return InstanceMask(
        id=0,
        bbox=encoded.bbox,
        area=encoded.area,
        predicted_iou=float(masks.predicted_iou[index]),
        stability_score=float(masks.stability[index]),
        prompt=(float(anchor[0]), float(anchor[1])),
        prompt_confidence=confidence,
        label="",
        counts=encoded.counts,
    )
