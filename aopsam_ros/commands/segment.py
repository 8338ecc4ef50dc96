"""`aopsam segment`: image files in, masks as JSON and an overlay out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from aopsam_ros.commands.arguments import (
    add_model_arguments,
    engine_options,
    open_boxes,
    parse_settings,
)
from aopsam_ros.errors import AopsamError, InputError
from aopsam_ros.images.files import read_rgb, write_bytes, write_rgb
from aopsam_ros.option_table import OPTIONS
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.prompting.sources import KNOWN
from aopsam_ros.results import Segmentation
from aopsam_ros.segmentation.json_format import to_json
from aopsam_ros.segmentation.segmenter import Segmenter

FAILED = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "options for --set:\n" + "\n".join(_describe(name) for name in OPTIONS)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="image files")
    parser.add_argument(
        "--out", type=Path, default=Path("out/segment"), help="folder for the results (%(default)s)"
    )
    parser.add_argument(
        "--prompts",
        default="auto",
        metavar="SOURCE",
        help=f"where prompts come from: auto, {KNOWN} (%(default)s)",
    )
    parser.add_argument("--no-overlay", action="store_true", help="write the JSON only")
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Segment every image; one that cannot be read does not stop the others.

    Returns:
        0, or 2 if an image failed.

    Raises:
        AopsamError: if nothing can be done: no image, a wrong option, a missing model.
    """
    images, settings = _split(arguments.images, arguments.set)
    outputs = _output_stems(images)
    engine = engine_options(arguments)
    boxes = open_boxes(arguments.boxes, [arguments.prompts])
    with Segmenter.from_bundle(arguments.model, arguments.prompts, engine) as segmenter:
        segmenter.options = segmenter.options.updated(settings)
        job = _Job(segmenter, boxes, frozenset(p.resolve() for p in images), arguments.no_overlay)
        arguments.out.mkdir(parents=True, exist_ok=True)
        bar = tqdm(images, unit="image", disable=len(images) == 1, file=sys.stderr)
        failures = [
            image
            for image, stem in zip(bar, outputs, strict=True)
            if not _try_one(job, image, arguments.out / stem)
        ]
    if failures and len(images) > 1:
        print(f"aopsam: {len(failures)} of {len(images)} images failed", file=sys.stderr)
    return FAILED if failures else 0


def _describe(name: str) -> str:
    spec = OPTIONS[name]
    scope = ", ".join(spec.choices) or f"{spec.minimum:.10g} to {spec.maximum:.10g}"
    return f"  {name:30} {spec.description} ({scope})"


def _split(images: Sequence[str], settings: Sequence[str]) -> tuple[list[Path], dict[str, object]]:
    """Tell images from settings: `--set a=1 photo.jpg` reads the image as one more setting."""
    words = [*images, *(word for word in settings if "=" not in word)]
    if not words:
        raise InputError("no image given")
    return [Path(word) for word in words], parse_settings([w for w in settings if "=" in w])


def _output_stems(images: Sequence[Path]) -> list[str]:
    """Name each image's results by its stem, numbered where two images share one."""
    taken: set[str] = set()
    stems = []
    for image in images:
        stem, number = image.stem, 1
        while stem in taken:
            number += 1
            stem = f"{image.stem}_{number}"
        taken.add(stem)
        stems.append(stem)
    return stems


@dataclass(frozen=True)
class _Job:
    """What is the same for every image."""

    segmenter: Segmenter
    boxes: BoxFile | None
    inputs: frozenset[Path]
    json_only: bool


def _try_one(job: _Job, image: Path, output: Path) -> bool:
    """Segment one image, write its results and print one line; return whether that worked."""
    try:
        segmentation = _segment_one(job, image, output)
    except (AopsamError, OSError, MemoryError) as error:
        reason = str(error) or type(error).__name__
        named = reason if str(image) in reason else f"{image}: {reason}"
        tqdm.write(f"aopsam: error: {named}", file=sys.stderr)
        return False
    tqdm.write(
        f"{image}: {len(segmentation.masks)} masks, "
        f"{segmentation.prompts_decoded} prompts decoded, "
        f"{segmentation.timings_ms['total']:.0f} ms -> {output.name}.json"
    )
    return True


def _segment_one(job: _Job, image: Path, output: Path) -> Segmentation:
    # Not with_suffix: a stem such as "frame.0001" has a dot of its own.
    json_file = output.with_name(f"{output.name}.json")
    overlay_file = output.with_name(f"{output.name}_overlay.png")
    rgb = read_rgb(image)
    if overlay_file.resolve() in job.inputs:
        raise InputError(f"{overlay_file} is one of the images and would be overwritten")
    boxes = job.boxes.find_path(image) if job.boxes else None
    segmentation = job.segmenter.segment(rgb, boxes=boxes)
    write_bytes(json_file, to_json(segmentation, str(image)).encode())
    if not job.json_only:
        from aopsam_ros.drawing.overlay import draw_overlay

        write_rgb(overlay_file, draw_overlay(rgb, segmentation))
    return segmentation
