"""`aopsam train-predictor --self-label`: images without labels in, data sets out."""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aopsam_ros.commands.arguments import add_settings_argument, parse_settings
from aopsam_ros.commands.segmenting.inputs import IMAGES_A_PART, shard_of

if TYPE_CHECKING:
    from aopsam_ros.data.frames import FrameSource
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
        help="only label, the I-th of N equal parts of all frames: one of N jobs",
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
    """Return how many parts to label the frames of all sources in."""
    from aopsam_ros.data.recordings import open_frames

    sources = [open_frames(path, arguments.topic, arguments.every) for path, _ in paths]
    return -(-sum(map(_length, sources)) // IMAGES_A_PART)


def _length(source: FrameSource) -> int:
    return max(1, len(source))  # some videos do not say how many frames they have


def share_of(sources: Sequence[FrameSource], shard: str) -> list[slice]:
    """Return which frames of each source a `--shard` labels.

    Frames of all sources in a row are divided, so that a part reads few recordings, not all.

    Raises:
        OptionError: see `shard_of`.
    """
    index, parts = shard_of(shard)
    ends = [0, *itertools.accumulate(map(_length, sources))]
    first, last = (ends[-1] * number // parts for number in (index, index + 1))
    return [
        # To the end of a source, which may have more frames than it says.
        slice(max(0, first - begin), None if end <= last else max(0, last - begin))
        if first < end
        else slice(0)
        for begin, end in itertools.pairwise(ends)
    ]


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

    shares: Sequence[slice | None] = [None] * len(sources)
    if arguments.shard is not None:
        shares = share_of([source for source, _ in sources], arguments.shard)
    size = engine.model.parts.image_size
    data = []
    for (source, weight), share in zip(sources, shares, strict=True):
        # Named by all that the labels depend on.
        facts = (engine.model.key(), source.key(), arguments.grid, sorted(arguments.set))
        key = content_key(repr(facts).encode())[:8]
        folder = Path(arguments.out) / FOLDER / f"{source.name}-{key}"
        data.append((str(folder), weight))
        labeller = SelfLabeller(segmenter, size, folder)
        if share is not None:
            labeller.label_share(source, share)
            continue
        count = labeller.label(source)
        print(f"{folder}: {count.masks} masks in {count.frames} frames")
        if count.broken:
            print(f"{source.name}: {count.broken} left out: {count.reason}", file=sys.stderr)
    return data
