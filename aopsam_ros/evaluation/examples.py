"""Example images: where the first source did best, middling and worst, and the others there."""

from __future__ import annotations

import hashlib
from pathlib import Path

from aopsam_ros.drawing.overlay import draw_overlay
from aopsam_ros.evaluation.evaluator import Evaluator
from aopsam_ros.evaluation.images import read_image
from aopsam_ros.images.files import write_rgb

FOLDER = "examples"


def draw_examples(evaluator: Evaluator, folder: Path) -> list[list[tuple[str, str]]]:
    """Draw what each prompt source finds on three images.

    Args:
        evaluator: after its run; its first source chooses the images.
        folder: gets a folder `examples`.

    Returns:
        a row for each image: files, relative to `folder`, and captions.
    """
    (folder / FOLDER).mkdir(exist_ok=True)
    sources = [one for one in evaluator.measurements if one.configuration.part == "sources"]
    first = sources[0].store.results
    ranked = sorted(evaluator.places, key=lambda key: (-first[key]["one_to_one"], key))
    rows = []
    for word, place in {"best": 0, "median": len(ranked) // 2, "worst": -1}.items():
        key = ranked[place]
        image = read_image(*evaluator.places[key])
        if image is None or image.key != key:
            raise ValueError(f"{key} has changed since it was measured")
        row = []
        for one in sources:
            title, figures = one.configuration.title, one.store.results[key]
            digest = hashlib.sha256(key.encode()).hexdigest()[:8]
            file = f"{FOLDER}/{word}_{title}_{digest}.jpg"
            write_rgb(folder / file, draw_overlay(image.rgb, one.segment(image)))
            caption = (
                f"{word}: {title}, {image.dataset.name}/{image.labelled.name}, mIoU 1:1 "
                f"{100 * figures['one_to_one']:.1f}, {figures['prompts_decoded']} prompts decoded"
            )
            row.append((file, caption))
        rows.append(row)
    return rows
