"""`aopsam segment`: image files in, masks as JSON and an overlay out."""

import argparse
import itertools
import sys
from collections.abc import Sequence
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
    engine = engine_options(arguments)
    boxes = open_boxes(arguments.boxes, [arguments.prompts])
    inputs = {image.resolve() for image in images}
    failures = 0
    with Segmenter.from_bundle(arguments.model, arguments.prompts, engine) as segmenter:
        segmenter.options = segmenter.options.updated(settings)
        arguments.out.mkdir(parents=True, exist_ok=True)
        bar = tqdm(images, unit="image", disable=len(images) == 1, file=sys.stderr)
        for image, stem in zip(bar, _output_stems(images), strict=True):
            overlay = None if arguments.no_overlay else arguments.out / f"{stem}_overlay.png"
            try:
                if overlay and overlay.resolve() in inputs:
                    raise InputError(f"{overlay} is one of the images and would be overwritten")
                found = _segment(segmenter, image, boxes, arguments.out / f"{stem}.json", overlay)
            except (AopsamError, OSError, MemoryError) as error:
                failures += 1
                reason = str(error) or type(error).__name__
                named = reason if str(image) in reason else f"{image}: {reason}"
                tqdm.write(f"aopsam: error: {named}", file=sys.stderr)
            else:
                tqdm.write(f"{image}: {found} -> {stem}.json")
    if failures and len(images) > 1:
        print(f"aopsam: {failures} of {len(images)} images failed", file=sys.stderr)
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
    stems: dict[str, None] = {}  # in order
    for image in images:
        numbered = (f"{image.stem}_{number}" for number in itertools.count(2))
        names = itertools.chain([image.stem], numbered)
        stems[next(name for name in names if name not in stems)] = None
    return list(stems)


def _segment(
    segmenter: Segmenter, image: Path, boxes: BoxFile | None, output: Path, overlay: Path | None
) -> str:
    """Segment one image and write its results; say in words what was found."""
    rgb = read_rgb(image)
    found = segmenter.segment(rgb, boxes=boxes.find_path(image) if boxes else None)
    write_bytes(output, to_json(found, str(image)).encode())
    if overlay:
        from aopsam_ros.drawing.overlay import draw_overlay

        write_rgb(overlay, draw_overlay(rgb, found))
    return (
        f"{len(found.masks)} masks, {found.prompts_decoded} prompts decoded, "
        f"{found.timings_ms['total']:.0f} ms"
    )
