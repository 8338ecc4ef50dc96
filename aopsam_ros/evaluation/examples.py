"""Example images: where the first source did best, middling and worst, and the others there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from aopsam_ros.drawing.overlay import draw_overlay
from aopsam_ros.evaluation.evaluator import Evaluator
from aopsam_ros.evaluation.figures import ImageFigures
from aopsam_ros.evaluation.images import EvaluationImage, read_image
from aopsam_ros.evaluation.measurement import Measurement
from aopsam_ros.images.files import write_rgb

FOLDER = "examples"


@dataclass(frozen=True)
class Example:
    """An image file and its caption."""

    file: str
    caption: str


def draw_examples(evaluator: Evaluator, folder: Path) -> list[list[Example]]:
    """Draw what each prompt source finds on three images; one row for each image.

    Args:
        evaluator: after its run; its first source chooses the images.
        folder: gets a folder `examples`.
    """
    (folder / FOLDER).mkdir(exist_ok=True)
    sources = [one for one in evaluator.measurements if one.configuration.part == "sources"]
    keys = [key for some in evaluator.by_set.values() for key in some]
    ranked = sorted(
        sources[0].results(keys), key=lambda pair: (-pair[1].figures.one_to_one, pair[0])
    )
    rows = []
    for word, place in {"best": 0, "median": len(ranked) // 2, "worst": -1}.items():
        image = read_image(*evaluator.places[ranked[place][0]])
        if image is None:
            raise ValueError(f"{ranked[place][0]} has changed since it was measured")
        row = []
        for one in sources:
            ((_, stored),) = one.results([image.key])
            row.append(_draw(one, image, stored.figures, word, folder))
        rows.append(row)
    return rows


def _draw(
    one: Measurement, image: EvaluationImage, figures: ImageFigures, word: str, folder: Path
) -> Example:
    title = one.configuration.title
    digest = hashlib.sha256(image.key.encode()).hexdigest()[:8]
    name = f"{FOLDER}/{word}_{title}_{digest}.jpg"
    write_rgb(folder / name, draw_overlay(image.rgb, one.segment(image)))
    return Example(
        name,
        f"{word}: {title}, {image.dataset.name}/{image.labelled.name}, mIoU 1:1 "
        f"{100 * figures.one_to_one:.1f}, {figures.prompts_decoded} prompts decoded",
    )
