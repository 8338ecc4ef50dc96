"""`aopsam segment`: pictures in, masks as JSON and an overlay out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from aopsam_ros.errors import AopsamError, InputError, OptionError
from aopsam_ros.images.files import read_rgb, write_bytes, write_rgb
from aopsam_ros.options import OPTIONS, parse
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.prompting.choosing import needs_boxes
from aopsam_ros.prompting.sources import KNOWN
from aopsam_ros.results import Segmentation
from aopsam_ros.segmentation.json_format import to_json
from aopsam_ros.segmentation.segmenter import Segmenter

FAILED = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "options for --set:\n" + "\n".join(_describe(name) for name in OPTIONS)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="picture files")
    parser.add_argument(
        "--out", type=Path, default=Path("out/segment"), help="folder for the results (%(default)s)"
    )
    parser.add_argument("--model", default="nano", help="bundle's name or folder (%(default)s)")
    parser.add_argument("--engine", default="auto", help="engine that runs it (%(default)s)")
    parser.add_argument(
        "--precision",
        default="auto",
        help="on a GPU and in OpenVINO: auto, fp16, fp32; in ONNX Runtime on a CPU: int8"
        " (%(default)s)",
    )
    parser.add_argument(
        "--prompts",
        default="auto",
        metavar="SOURCE",
        help=f"where prompts come from: auto, {KNOWN} (%(default)s)",
    )
    parser.add_argument(
        "--boxes",
        type=Path,
        metavar="FILE",
        help="a detector's boxes for the sources boxes and box_centres: JSON, a picture's name to a"
        " list of [left, top, right, bottom, confidence]",
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the engine (0: all)")
    parser.add_argument("--no-overlay", action="store_true", help="write the JSON only")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="set options"
    )


def run(arguments: argparse.Namespace) -> int:
    """Segment every picture; one that cannot be read does not keep the others from being done.

    Returns:
        0, or 2 if a picture failed.

    Raises:
        AopsamError: if nothing can be done: no picture, a wrong option, a missing model.
    """
    images, settings = _split(arguments.images, arguments.set)
    outputs = _output_stems(images)
    if arguments.threads < 0:
        raise OptionError("--threads must be 0 or more")
    boxes = _box_file(arguments)
    with Segmenter.from_bundle(
        arguments.model,
        arguments.engine,
        arguments.prompts,
        arguments.threads,
        arguments.precision,
    ) as segmenter:
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
    """Sort what was given: `--set a=1 photo.jpg` reads the picture as one more setting."""
    words = [*images, *(word for word in settings if "=" not in word)]
    if not words:
        raise InputError("no image given")
    pairs = [word.split("=", 1) for word in settings if "=" in word]
    return [Path(word) for word in words], {name: parse(name, value) for name, value in pairs}


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
    """What is the same for every picture."""

    segmenter: Segmenter
    boxes: BoxFile | None
    inputs: frozenset[Path]
    json_only: bool


def _box_file(arguments: argparse.Namespace) -> BoxFile | None:
    """Read the boxes, if the prompt source takes any."""
    if not needs_boxes(arguments.prompts):
        return None
    if arguments.boxes is None:
        raise OptionError(f"--prompts {arguments.prompts} needs --boxes FILE")
    return BoxFile(arguments.boxes)


def _try_one(job: _Job, image: Path, output: Path) -> bool:
    """Segment one picture and write its results; say in one line what came of it."""
    try:
        segmentation = _segment_one(job, image, output)
    except (AopsamError, OSError, MemoryError) as error:
        reason = str(error) or type(error).__name__
        named = reason if str(image) in reason else f"{image}: {reason}"
        tqdm.write(f"aopsam: error: {named}", file=sys.stderr)
        return False
    tqdm.write(
        f"{image}: {len(segmentation.masks)} masks, {segmentation.decoder_calls} decoder calls, "
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
        # Imported here: drawing is needed by this command only, and only when asked for.
        from aopsam_ros.drawing.overlay import draw_overlay

        write_rgb(overlay_file, draw_overlay(rgb, segmentation))
    return segmentation
