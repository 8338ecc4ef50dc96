"""ASF, fine: masks of one batch decide which of the remaining prompts need no decoding.

The paper's rule reads the Prompt Elimination Map (AoP-SAM, adaptive filtering). A rule sees the
masks of the batch just decoded; those of earlier batches have been compared with the remaining
prompts before. docs/evaluation.md lists the rules.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.options import AsfOptions
from aopsam_ros.prompting.elimination_map import EliminationMap, elimination_map
from aopsam_ros.prompting.features import FeatureMap, single_thread_matmul


@dataclass(frozen=True)
class FilterContext:
    """The kept masks of one batch, and the prompts still waiting."""

    # makes the frame's feature map; the embedding then has to come to the host
    features: Callable[[], FeatureMap]
    geometry: FrameGeometry  # of the frame
    low_size: int  # side of the low-resolution square
    # bool `[n, rows, columns]` at low resolution, the part that shows the image
    masks: NDArray[np.bool_]
    predicted_iou: NDArray[np.float32]  # float32 `[n]`
    prompts: NDArray[np.int64]  # int64 `[n]`, equal for masks of one prompt
    points: NDArray[np.float64]  # the masks' prompts, source pixels `[n, 2]`
    remaining: NDArray[np.float64]  # prompts that wait, source pixels `[q, 2]`

    def elimination_map(self) -> EliminationMap:
        """Return the map of the batch's masks."""
        return elimination_map(
            self.features(), self.masks, self.low_size, self.points, self.predicted_iou
        )


def drop_by_mean_map(context: FilterContext, asf: AsfOptions) -> NDArray[np.bool_]:
    """The paper's rule: drop what the mean over the masks' maps eliminates."""
    return context.elimination_map().mean_exceeded(context.remaining, asf.elimination_threshold)


def drop_by_any_map(context: FilterContext, asf: AsfOptions) -> NDArray[np.bool_]:
    """The same test for each mask by itself: drop what any mask's own map eliminates."""
    return np.asarray(_resembles_mask(context, asf).any(axis=0), np.bool_)


def drop_inside(context: FilterContext, asf: AsfOptions) -> NDArray[np.bool_]:  # noqa: ARG001
    """Drop prompts that already lie in a kept mask.

    Look-alikes elsewhere in the image, such as the next bottle of a row, stay.
    """
    return np.asarray(_lies_in(context).any(axis=0), np.bool_)


def drop_any_map_inside(context: FilterContext, asf: AsfOptions) -> NDArray[np.bool_]:
    """Drop q only where it lies in a kept mask and looks like that same mask.

    A bottle on a shelf stays although the shelf's mask covers it and the next bottle is similar.
    """
    return np.asarray((_resembles_mask(context, asf) & _lies_in(context)).any(axis=0), np.bool_)


def drop_inside_all(context: FilterContext, asf: AsfOptions) -> NDArray[np.bool_]:  # noqa: ARG001
    """Drop q only where it lies in every kept mask of one prompt.

    Of a part, its whole and the whole's surroundings, the largest mask says little about q.
    """
    return _by_prompt(context, _lies_in(context))


def drop_duplicates(context: FilterContext, asf: AsfOptions) -> NDArray[np.bool_]:
    """Drop q where it lies in every kept mask of one prompt p and its feature is similar to p's.

    Such a q would give p's masks again. What lies on a large thing without being a part of it, as
    a cup on a table, differs from it at the point itself, where no mean over a mask blurs it.
    """
    features = context.features()
    cosine = single_thread_matmul(features.at(context.points), features.at(context.remaining).T)
    return _by_prompt(context, _lies_in(context) & (cosine > asf.elimination_cosine))


def _resembles_mask(context: FilterContext, asf: AsfOptions) -> NDArray[np.bool_]:
    """Return which prompt which mask's own map eliminates, `[n, q]`."""
    return context.elimination_map().each_exceeded(context.remaining, asf.elimination_threshold)


def _lies_in(context: FilterContext) -> NDArray[np.bool_]:
    """Return which prompt lies in which mask, `[n, q]`."""
    rows, columns = context.masks.shape[1:]
    cells = np.rint(context.geometry.to_cells(context.remaining, context.low_size))
    x = np.clip(cells[:, 0].astype(np.int64), 0, columns - 1)
    y = np.clip(cells[:, 1].astype(np.int64), 0, rows - 1)
    return np.asarray(context.masks[:, y, x], np.bool_)


def _by_prompt(context: FilterContext, passed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return for which of the remaining a test `[n, q]` passed with all masks of some prompt."""
    _, group = np.unique(context.prompts, return_inverse=True)
    failures = np.zeros((group.max() + 1, passed.shape[1]), np.int64)
    np.add.at(failures, group, ~passed)
    return np.asarray((failures == 0).any(axis=0), np.bool_)


# By the value of `asf.filtering`; "none" has no rule.
RULES: Mapping[str, Callable[[FilterContext, AsfOptions], NDArray[np.bool_]]] = {
    "paper": drop_by_mean_map,
    "max": drop_by_any_map,
    "inside": drop_inside,
    "max_inside": drop_any_map_inside,
    "inside_all": drop_inside_all,
    "duplicates": drop_duplicates,
}
# Options that play a part with some rules only, and those rules.
RULE_OPTIONS: Mapping[str, Collection[str]] = {
    "asf.elimination_iou": RULES,
    "asf.elimination_threshold": ("paper", "max", "max_inside"),
    "asf.elimination_cosine": ("duplicates",),
}
