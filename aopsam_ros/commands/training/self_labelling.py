"""`aopsam train-predictor --self-label`: images without labels in, data sets out."""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aopsam_ros.commands.arguments import add_settings_argument, parse_settings
from aopsam_ros.commands.segmenting.inputs import IMAGES_A_PART, shard_of

if TYPE_CHECKING:
    from aopsam_ros.segmentation.segmenter import Segmenter
    from aopsam_ros.training.frozen_engine import FrozenEngine

FOLDER = "self-labels"


def add_self_label_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--self-label` and what belongs to it."""
    group = parser.add_argument_group("without labels")
    group.add_argument(
        "--self-label",
        action="store_true",
        help="--data are images without labels: folders of them, videos, or recordings (rosbag2"
        " folders, .mcap, .db3); the model's own masks are the labels",
    )
    group.add_argument(
        "--grid", type=int, choices=(16, 32), default=16, help="its prompts, a side (%(default)s)"
    )
    add_frame_arguments(group)
    parts = group.add_mutually_exclusive_group()
    parts.add_argument(
        "--shard",
        metavar="I/N",
        help="only label, every N-th frame from the I-th on: one of N jobs",
    )
    parts.add_argument(
        "--ray",
        metavar="ADDRESS",
        help=f"label {IMAGES_A_PART} frames a part on the machines of this Ray cluster (HOST:PORT,"
        " auto; local: on this one) before training here",
    )
    add_settings_argument(group, "options of the labelling, such as mask.predicted_iou_threshold")


def add_frame_arguments(parser: argparse._ActionsContainer) -> None:
    """Declare `--every` and `--topic`, which choose frames of videos and recordings."""
    every = "take every N-th frame of a video or a recording (%(default)s)"
    parser.add_argument("--every", type=int, default=10, metavar="N", help=every)
    parser.add_argument(
        "--topic", default="", help="of the images in a recording (the only one there is)"
    )


def num_frame_parts(arguments: argparse.Namespace, paths: list[tuple[str, float]]) -> int:
    """Return how many parts of the largest source's frames to label."""
    from aopsam_ros.data.recordings import open_frames

    sources = [open_frames(path, arguments.topic, arguments.every) for path, _ in paths]
    return -(-max(map(len, sources)) // IMAGES_A_PART)


def label_all(
    arguments: argparse.Namespace, paths: list[tuple[str, float]], engine: FrozenEngine
) -> list[tuple[str, float]]:
    """Label images with the model's masks; return the data sets made, with their weights.

    With `--shard` only that part of them: the data sets are not complete then.

    Raises:
        AopsamError: if a source cannot be read or has no mask, or an option is wrong.
    """
    from aopsam_ros.data.recordings import open_frames
    from aopsam_ros.training.prepared_images import content_key
    from aopsam_ros.training.self_labels import SelfLabeller

    settings = parse_settings(arguments.set)
    sources = [(open_frames(p, arguments.topic, arguments.every), w) for p, w in paths]

    @functools.cache
    def segmenter() -> Segmenter:
        made = engine.segmenter(f"grid{arguments.grid}")
        made.options = made.options.updated(settings)
        return made

    size = engine.model.parts.image_size
    data = []
    for source, weight in sources:
        # Named by all that the labels depend on.
        facts = (engine.model.key(), source.key(), arguments.grid, sorted(arguments.set))
        key = content_key(repr(facts).encode())[:8]
        folder = Path(arguments.out) / FOLDER / f"{source.name}-{key}"
        data.append((str(folder), weight))
        labeller = SelfLabeller(segmenter, size, folder)
        if arguments.shard is not None:
            labeller.label_share(source, *shard_of(arguments.shard))
            continue
        count = labeller.label(source)
        print(f"{folder}: {count.masks} masks in {count.frames} frames")
        if count.broken:
            print(f"{source.name}: {count.broken} left out: {count.reason}", file=sys.stderr)
    return data
