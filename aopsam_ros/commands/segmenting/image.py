"""`aopsam segment` of one image, with the model's prompts or the user's."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aopsam_ros.data.dataset_writing import DatasetWriter
from aopsam_ros.drawing.overlay import draw_overlay
from aopsam_ros.errors import InputError
from aopsam_ros.images.files import read_rgb, write_bytes, write_rgb
from aopsam_ros.masks.edges import edge_options
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.prompting.user_prompts import BACKGROUND, OBJECT, UserPrompt
from aopsam_ros.segmentation.interactive import segment_clicks
from aopsam_ros.segmentation.json_format import to_json
from aopsam_ros.segmentation.segmenter import Segmenter


def segment_image(
    segmenter: Segmenter,
    image: Path,
    stem: str,
    arguments: argparse.Namespace,
    prompts: UserPrompt | BoxFile | None,
    dataset: DatasetWriter | None,
    originals: set[Path],
) -> str:
    """Segment one image and write its results; say in words what was found."""
    folder: Path = arguments.out
    overlay, edges = folder / f"{stem}_overlay.png", folder / f"{stem}_edges.png"
    masks = folder / f"{stem}.json"
    draws_overlay = dataset is None and not arguments.no_overlay
    for file, is_written in ((overlay, draws_overlay), (edges, arguments.edges)):
        if is_written and file.resolve() in originals:
            raise InputError(f"{file} is one of the images and would be overwritten")
    if dataset is None and _is_of_others(masks):
        raise InputError(f"{masks} is no earlier result and would be overwritten")
    rgb = read_rgb(image)
    if isinstance(prompts, UserPrompt):
        found = segment_clicks(segmenter, rgb, prompts)
    else:
        given = prompts.find_path(image) if prompts else None
        found = segmenter.segment(rgb, boxes=given)
        if arguments.edges:
            options = edge_options(segmenter.options)
            edge_map = segmenter.segment(rgb, options, given, edges=True).edge_map
            if edge_map is not None:
                grey = (255 * edge_map).astype(np.uint8)[..., None]
                write_rgb(edges, np.repeat(grey, 3, axis=2))
    if dataset:
        dataset.add(stem, rgb, found)
    else:
        write_bytes(masks, to_json(found, str(image)).encode())
        if draws_overlay:
            write_rgb(overlay, draw_overlay(rgb, found))
    written = dataset.image_path(stem) if dataset else masks
    return (
        f"{len(found.masks)} masks, {found.prompts_decoded} prompts decoded, "
        f"{found.timings_ms['total']:.0f} ms -> {written}"
    )


def _is_of_others(file: Path) -> bool:
    """Return whether there is a file that is none of ours, as labels of SA-1B or LabelMe are."""
    if not file.exists():
        return False
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return True
    return not (isinstance(content, dict) and {"image", "prompts", "masks"} <= content.keys())


def read_prompt(points: Sequence[str], box: str | None) -> UserPrompt | None:
    """Read `--point` and `--box`; None where there are none.

    Raises:
        InputError: if one is not as many numbers as it takes, a point is neither on the object nor
            beside it, or nothing is meant.
    """
    if not points and box is None:
        return None
    rows = [_numbers("--point", point, 2, 3) for point in points]
    labels = [row[2] if len(row) == 3 else OBJECT for row in rows]
    if not {*labels} <= {OBJECT, BACKGROUND}:  # as an 8-bit number, 256 or 0.5 would be one
        raise InputError("--point: the third number is 1 on the object, or 0 beside it")
    corners = None if box is None else _numbers("--box", box, 4, 4)
    return UserPrompt(
        np.array([row[:2] for row in rows], np.float64).reshape(-1, 2),
        np.array(labels).astype(np.uint8),
        None if corners is None else (corners[0], corners[1], corners[2], corners[3]),
    )


def _numbers(name: str, text: str, least: int, most: int) -> list[float]:
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if not least <= len(numbers) <= most:
        how_many = f"{least}" if least == most else f"{least} or {most}"
        raise InputError(f"{name} takes {how_many} numbers separated by commas, not '{text}'")
    return numbers
