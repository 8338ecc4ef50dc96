"""`aopsam segment`: images, videos, recordings and cameras in, masks and what shows them out."""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from aopsam_ros.commands.arguments import (
    add_model_arguments,
    engine_options,
    open_boxes,
    refuse_given,
    require,
)
from aopsam_ros.commands.segmenting.image import read_prompt, segment_image
from aopsam_ros.commands.segmenting.inputs import (
    images_of,
    num_parts,
    output_stems,
    shard_of,
    split_words,
)
from aopsam_ros.commands.segmenting.over_ray import run_over_ray
from aopsam_ros.commands.segmenting.stream import is_stream, segment_stream
from aopsam_ros.data.dataset_writing import WITH_PYCOCOTOOLS, WRITERS, DatasetWriter
from aopsam_ros.errors import AopsamError, InputError, OptionError
from aopsam_ros.options import OPTIONS
from aopsam_ros.prompting.sources import KNOWN, without_effect
from aopsam_ros.segmentation.segmenter import Segmenter

FAILED = 2
MOST_FRAMES = 1_000_000_000  # over a year of 30 a second


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "options for --set:\n" + "\n".join(_describe(name) for name in OPTIONS)
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="image files, videos, recordings (rosbag2 folders, .mcap, .db3, .bag), folders of"
        " images or else of these, or a camera's number",
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
    group = parser.add_argument_group(
        "frames in a row: videos, recordings, cameras, and with --save-video or --show folders"
    )
    group.add_argument(
        "--save-video",
        action="store_true",
        help="write an MP4 with the masks and their ids",
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
    """
    words, settings = split_words(arguments.inputs, arguments.set)
    if not (0 <= arguments.limit <= MOST_FRAMES and 1 <= arguments.every <= MOST_FRAMES):
        raise OptionError(f"--limit must be from 0, --every from 1, to {MOST_FRAMES}")
    engine = engine_options(arguments)
    boxes = open_boxes(arguments.boxes, [arguments.prompts])
    prompt = read_prompt(arguments.point, arguments.box)
    if arguments.format in WITH_PYCOCOTOOLS:
        require(["pycocotools"], f"--format {arguments.format} needs", "`pip install pycocotools`")
    inputs = _inputs(arguments, words)
    if arguments.ray is not None:
        return run_over_ray(run, arguments, num_parts(inputs))
    first, step = shard_of(arguments.shard)
    named = list(zip(inputs, output_stems(inputs), strict=True))[first::step]
    failed = failures = 0
    with (
        Segmenter.from_bundle(arguments.model, arguments.prompts, engine) as segmenter,
        _dataset(arguments, inputs, len(named)) as dataset,
    ):
        _set_options(segmenter, settings)
        arguments.out.mkdir(parents=True, exist_ok=True)
        originals = {path.resolve() for path in inputs}
        bar = tqdm(named, unit="image", disable=len(inputs) == 1, file=sys.stderr)
        for path, stem in bar:
            try:
                if is_stream(path) or path.is_dir():
                    if prompt is not None:
                        raise InputError("--point and --box are for images")
                    said, lost = segment_stream(
                        segmenter, path, stem, arguments, boxes, dataset, originals
                    )
                    failures += lost
                else:
                    said = segment_image(
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


def _set_options(segmenter: Segmenter, settings: Mapping[str, object]) -> None:
    """Set the options of `--set`, and say which of them have no effect."""
    segmenter.options = segmenter.options.updated(settings)
    rule, engine = segmenter.options.asf.filtering, segmenter.engine
    for name in settings:
        if why := without_effect(name, segmenter.source, rule, lambda: engine.accepts_mask_input):
            print(f"aopsam: {why}", file=sys.stderr)


def _inputs(arguments: argparse.Namespace, words: list[Path]) -> list[Path]:
    """List what to segment; refuse options that none of it takes."""
    as_frames = arguments.save_video or arguments.show
    inputs = [path for word in words for path in images_of(word, as_frames)]
    in_a_row = [is_stream(path) or path.is_dir() for path in inputs]
    if not any(in_a_row) and all(path.exists() for path in inputs):
        why = "takes frames in a row: a video, a recording or a camera"
        refuse_given(arguments, add_arguments, ["topic", "every", "limit"], why)
        if as_frames:
            reason = "--save-video and --show take frames in a row: a folder, not its images"
            raise OptionError(reason)
    if arguments.edges and (arguments.point or arguments.box or all(in_a_row)):
        raise OptionError("--edges is for images, and does not go with --point and --box")
    return inputs


@contextlib.contextmanager
def _dataset(
    arguments: argparse.Namespace, inputs: Sequence[Path], count: int
) -> Iterator[DatasetWriter | None]:
    """Open the data set of `--format`, if it is one; it is closed after Ctrl-C as well.

    `count` inputs come: of more parts than inputs some have none, and leave no empty data set.
    """
    writer = WRITERS.get(arguments.format)
    if writer is None or not count:
        yield None
        return
    out = arguments.out
    if arguments.shard is not None:  # some formats have one file for all images
        out = out / f"shard-{arguments.shard.replace('/', '-of-')}"
    images = (out / writer.images).resolve()
    for path in inputs:
        if not is_stream(path) and images in (path.resolve(), path.resolve().parent):
            raise InputError(f"{path} is in the data set of --out, which would be overwritten")
    out.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(writer(out)) as dataset:
        yield dataset


def _describe(name: str) -> str:
    spec = OPTIONS[name]
    scope = ", ".join(spec.choices) or f"{spec.minimum:.10g} to {spec.maximum:.10g}"
    return f"  {name:30} {spec.description} ({scope})"
