"""`aopsam segment`: images, videos, recordings and cameras in, masks and what shows them out."""

import argparse
import contextlib
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from aopsam_ros.commands.arguments import (
    add_model_arguments,
    engine_options,
    open_boxes,
    parse_settings,
    require,
)
from aopsam_ros.commands.over_ray import run_over_ray
from aopsam_ros.commands.segment_stream import is_stream, segment_stream
from aopsam_ros.data.dataset_writing import WITH_PYCOCOTOOLS, WRITERS, DatasetWriter
from aopsam_ros.drawing.overlay import draw_overlay
from aopsam_ros.errors import AopsamError, InputError, OptionError, quoted
from aopsam_ros.images.files import IMAGE_SUFFIXES, read_rgb, write_bytes, write_rgb
from aopsam_ros.option_table import OPTIONS
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.prompting.sources import KNOWN
from aopsam_ros.prompting.user_prompts import OBJECT, UserPrompt
from aopsam_ros.segmentation.interactive import segment_clicks
from aopsam_ros.segmentation.json_format import to_json
from aopsam_ros.segmentation.segmenter import Segmenter

FAILED = 2
IMAGES_A_PART = 200  # over Ray: minutes, for a model of seconds an image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "options for --set:\n" + "\n".join(_describe(name) for name in OPTIONS)
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="image files, folders of images, videos, recordings (rosbag2 folders, .mcap, .db3,"
        " .bag), or a camera's number",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out/segment"), help="folder for the results (%(default)s)"
    )
    parser.add_argument(
        "--format",
        choices=("json", *WRITERS),
        default="json",
        help="json: a file and an overlay for each image, a line for each frame of a video; or a"
        " data set of images and labels, for labelling tools and training (%(default)s)",
    )
    parser.add_argument(
        "--prompts",
        default="auto",
        metavar="SOURCE",
        help=f"where prompts come from: auto, {KNOWN} (%(default)s)",
    )
    parser.add_argument(
        "--point",
        action="append",
        default=[],
        metavar="X,Y[,0]",
        help="a prompt of your own on an image: a pixel on the object, or with ,0 beside it; each"
        " further one corrects the mask before",
    )
    parser.add_argument(
        "--box", metavar="LEFT,TOP,RIGHT,BOTTOM", help="likewise a box around the object"
    )
    parser.add_argument(
        "--edges", action="store_true", help="write an image's edges, too: <name>_edges.png"
    )
    parser.add_argument("--no-overlay", action="store_true", help="no overlay of an image")
    group = parser.add_argument_group("frames in a row: videos, recordings, cameras")
    group.add_argument(
        "--save-video",
        action="store_true",
        help="write an MP4 with the masks and their ids; a folder's images are then frames, too",
    )
    group.add_argument(
        "--show", action="store_true", help="show that in a window; q ends it, Ctrl-C a camera"
    )
    group.add_argument("--topic", default="", help="of the images in a recording (the only one)")
    every = "take every N-th frame of a video or a recording (%(default)s)"
    group.add_argument("--every", type=int, default=1, metavar="N", help=every)
    group.add_argument(
        "--limit", type=int, default=0, metavar="N", help="frames of each at most (0: all)"
    )
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument(
        "--shard",
        metavar="I/N",
        help="do the I-th of N parts of the inputs, as one of N machines; results are named as by"
        " one, a data set has a folder for each part",
    )
    parts.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="do all parts, of minutes each, on the machines of this Ray cluster (HOST:PORT, auto;"
        " local: on this one); a part whose process died is done again",
    )
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Segment every input; one that cannot be read does not stop the others.

    Returns:
        0, or 2 if an image or a frame failed.

    Raises:
        AopsamError: if nothing can be done: no input, a wrong option, a missing model.
    """
    words, settings = _split(arguments.inputs, arguments.set)
    if arguments.limit < 0 or arguments.every < 1:
        raise OptionError("--limit must be 0 or more, --every 1 or more")
    engine = engine_options(arguments)
    boxes = open_boxes(arguments.boxes, [arguments.prompts])
    prompt = _prompt(arguments.point, arguments.box)
    if arguments.format in WITH_PYCOCOTOOLS:
        require(["pycocotools"], f"--format {arguments.format} needs", "`pip install pycocotools`")
    inputs = [path for word in words for path in _images_of(word, arguments.save_video)]
    if arguments.ray is not None:
        return run_over_ray(run, arguments, _num_parts(inputs))
    first, step = _shard(arguments)
    named = list(zip(inputs, _output_stems(inputs), strict=True))[first::step]
    failed = failures = 0
    with (
        Segmenter.from_bundle(arguments.model, arguments.prompts, engine) as segmenter,
        _dataset(arguments) as dataset,
    ):
        segmenter.options = segmenter.options.updated(settings)
        arguments.out.mkdir(parents=True, exist_ok=True)
        originals = {path.resolve() for path in inputs}
        bar = tqdm(named, unit="image", disable=len(inputs) == 1, file=sys.stderr)
        for path, stem in bar:
            try:
                if is_stream(path) or path.is_dir():
                    if prompt is not None:
                        raise InputError("--point and --box are for images")
                    said, lost = segment_stream(segmenter, path, stem, arguments, boxes, dataset)
                    failures += lost
                else:
                    said = _segment(
                        segmenter, path, stem, arguments, prompt or boxes, dataset, originals
                    )
            except (AopsamError, OSError, MemoryError) as error:
                failed += 1
                reason = str(error) or type(error).__name__
                line = reason if str(path) in reason else f"{path}: {reason}"
                tqdm.write(f"aopsam: error: {line}", file=sys.stderr)
            else:
                tqdm.write(f"{path}: {said}")
    if failed and len(inputs) > 1:
        print(f"aopsam: {failed} of {len(named)} inputs failed", file=sys.stderr)
    return FAILED if failed or failures else 0


def _num_parts(inputs: Sequence[Path]) -> int:
    """Return how many parts to do the inputs in: a recording each, or some images."""
    streams = sum(is_stream(path) for path in inputs)
    return max(1, streams, -(-len(inputs) // IMAGES_A_PART))


def _shard(arguments: argparse.Namespace) -> tuple[int, int]:
    """Return the index of the first input to do, and the step to the next one; see `--shard`.

    Raises:
        OptionError: It is not two numbers, the first from 1 to the second.
    """
    if arguments.shard is None:
        return 0, 1
    part, _, parts = arguments.shard.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise OptionError(f"--shard takes I/N, such as 1/8 to 8/8, not {quoted(arguments.shard)}")
    return int(part) - 1, int(parts)


@contextlib.contextmanager
def _dataset(arguments: argparse.Namespace) -> Iterator[DatasetWriter | None]:
    """Open the data set of `--format`, if it is one; it is closed after Ctrl-C as well."""
    writer = WRITERS.get(arguments.format)
    if writer is None:
        yield None
        return
    out = arguments.out
    if arguments.shard is not None:  # some formats have one file for all images
        out = out / f"shard-{arguments.shard.replace('/', '-of-')}"
    out.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(writer(out)) as dataset:
        yield dataset


def _images_of(path: Path, as_frames: bool) -> list[Path]:
    """Return a folder's images; a path itself where it has none or is something else."""
    if as_frames or is_stream(path) or not path.is_dir():
        return [path]
    return sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES) or [path]


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
        stem = Path(os.path.abspath(image)).stem  # of ".", too
        names = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
        stems[next(name for name in names if name not in stems)] = None
    return list(stems)


def _segment(
    segmenter: Segmenter,
    image: Path,
    stem: str,
    arguments: argparse.Namespace,
    prompts: UserPrompt | BoxFile | None,
    dataset: DatasetWriter | None,
    originals: set[Path],
) -> str:
    """Segment one image and write its results; say in words what was found."""
    overlay = None if arguments.no_overlay else arguments.out / f"{stem}_overlay.png"
    drawn = dataset.image_path(stem) if dataset else overlay
    if drawn and drawn.resolve() in originals:
        raise InputError(f"{drawn} is one of the images and would be overwritten")
    rgb = read_rgb(image)
    if isinstance(prompts, UserPrompt):
        found = segment_clicks(segmenter, rgb, prompts)
    else:
        given = prompts.find_path(image) if prompts else None
        found = segmenter.segment(rgb, boxes=given, edges=arguments.edges)
    if found.edge_map is not None:
        grey = (255 * found.edge_map).astype(np.uint8)
        write_rgb(arguments.out / f"{stem}_edges.png", np.repeat(grey[..., None], 3, axis=2))
    if dataset:
        dataset.add(stem, rgb, found)
    else:
        write_bytes(arguments.out / f"{stem}.json", to_json(found, str(image)).encode())
        if overlay:
            write_rgb(overlay, draw_overlay(rgb, found))
    return (
        f"{len(found.masks)} masks, {found.prompts_decoded} prompts decoded, "
        f"{found.timings_ms['total']:.0f} ms -> {drawn if dataset else f'{stem}.json'}"
    )


def _prompt(points: Sequence[str], box: str | None) -> UserPrompt | None:
    """Read `--point` and `--box`; None where there are none.

    Raises:
        InputError: if one is not as many numbers as it takes, or nothing is meant.
    """
    if not points and box is None:
        return None
    rows = [_numbers("--point", point, 2, 3) for point in points]
    corners = None if box is None else _numbers("--box", box, 4, 4)
    return UserPrompt(
        np.array([row[:2] for row in rows], np.float64).reshape(-1, 2),
        np.array([row[2] if len(row) == 3 else OBJECT for row in rows]).astype(np.uint8),
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
