"""A segmentation as JSON, as `aopsam segment` writes it."""

import json
from typing import Any

from aopsam_ros.results import InstanceMask, Prompt, Segmentation


def to_json(segmentation: Segmentation, image: str, stamp: int | None = None) -> str:
    """Return a segmentation of an image of that name as a line of JSON; source pixels.

    `stamp` is a frame's, nanoseconds; None: it has none, and the line neither.
    """
    content = {
        "image": image,
        **({} if stamp is None else {"stamp": stamp}),
        "width": segmentation.width,
        "height": segmentation.height,
        "model": segmentation.model,
        "prompt_source": segmentation.prompt_source,
        "prompts": [_prompt(prompt) for prompt in segmentation.prompts],
        "masks": [_mask(mask) for mask in segmentation.masks],
        "prompts_decoded": segmentation.prompts_decoded,
        "timings_ms": {name: round(ms, 3) for name, ms in segmentation.timings_ms.items()},
    }
    return json.dumps(content, allow_nan=False) + "\n"


def _prompt(prompt: Prompt) -> dict[str, Any]:
    return {
        "x": round(prompt.x, 3),
        "y": round(prompt.y, 3),
        "confidence": round(prompt.confidence, 6),
        "state": prompt.state.name,
    }


def _mask(mask: InstanceMask) -> dict[str, Any]:
    label = {"label": mask.label, "label_score": round(mask.label_score, 6)} if mask.label else {}
    return {
        "id": mask.id,
        "bbox": list(mask.bbox),
        "area": mask.area,
        "predicted_iou": round(mask.predicted_iou, 6),
        "stability_score": round(mask.stability_score, 6),
        "score": round(mask.score, 6),
        "parent": mask.parent,
        "level": mask.level,
        **label,
        "prompt": [round(mask.prompt[0], 3), round(mask.prompt[1], 3)],
        "counts": mask.counts.tolist(),
    }
