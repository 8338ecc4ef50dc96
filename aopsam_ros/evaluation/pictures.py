"""Example pictures: where the first source did best, middling and worst, and the others there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aopsam_ros.drawing.overlay import draw_overlay
from aopsam_ros.evaluation.harness import Harness, Measured
from aopsam_ros.evaluation.photographs import read
from aopsam_ros.images.files import write_rgb


@dataclass(frozen=True)
class Example:
    """A picture file and what stands under it."""

    file: str
    caption: str


def draw_examples(
    harness: Harness, measured: Sequence[Measured], folder: Path
) -> list[list[Example]]:
    """Draw what each configuration finds on three photographs; one row for each photograph.

    Args:
        harness: after its run.
        measured: the configurations, the one that chooses the photographs first.
        folder: gets a folder `pictures`.
    """
    (folder / "pictures").mkdir(exist_ok=True)
    ranked = sorted(
        harness.results(measured[0]), key=lambda pair: (-pair[1].result.one_to_one, pair[0])
    )
    places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    return [
        [_draw(harness, one, ranked[place][0], word, folder) for one in measured]
        for word, place in places.items()
    ]


def _draw(harness: Harness, one: Measured, key: str, word: str, folder: Path) -> Example:
    photograph = read(*harness.places[key])
    stored = one.store.get(key)
    if photograph is None or stored is None:
        raise ValueError(f"{key} has not been measured")
    boxes = harness.boxes_of(one, photograph)
    segmentation = one.segmenter.segment(photograph.image.rgb, one.options, boxes)
    title = one.configuration.title
    name = f"pictures/{word}_{title}_{hashlib.sha256(key.encode()).hexdigest()[:8]}.jpg"
    write_rgb(folder / name, draw_overlay(photograph.image.rgb, segmentation))
    return Example(
        name,
        f"{word}: {title}, {photograph.dataset.name}/{photograph.image.name}, mIoU 1:1 "
        f"{100 * stored.result.one_to_one:.1f}, {stored.result.decoder_calls} calls",
    )
