"""Which images, videos and recordings a command line names, and a machine's part of them."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from aopsam_ros.commands.arguments import parse_settings
from aopsam_ros.commands.segmenting.stream import is_stream
from aopsam_ros.errors import InputError, OptionError, quoted
from aopsam_ros.images.files import images_in

MAX_SHARD_TEXT = 40  # of I/N: Python reads no number of thousands of digits
IMAGES_A_PART = 200  # over Ray: minutes, for a model of seconds an image


def split_words(
    images: Sequence[str], settings: Sequence[str]
) -> tuple[list[Path], dict[str, object]]:
    """Tell images from settings: `--set a=1 photo.jpg` reads the image as one more setting."""
    words = [*images, *(word for word in settings if "=" not in word)]
    if not words:
        raise InputError("no image given")
    return [Path(word) for word in words], parse_settings([w for w in settings if "=" in w])


def images_of(path: Path, as_frames: bool) -> list[Path]:
    """Return a folder's images, or else its videos and recordings; a path itself without any."""
    if is_stream(path) or not path.is_dir():
        return [path]
    if images := images_in(path):
        return [path] if as_frames else images
    return [file for file in sorted(path.iterdir()) if is_stream(file)] or [path]


def output_stems(images: Sequence[Path]) -> list[str]:
    """Name each image's results by its stem, numbered where two images share one."""
    stems: dict[str, None] = {}  # in order
    for image in images:
        stem = Path(os.path.abspath(image)).stem  # of ".", too
        names = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
        stems[next(name for name in names if name not in stems)] = None
    return list(stems)


def num_parts(inputs: Sequence[Path]) -> int:
    """Return how many parts to do the inputs in: frames in a row each, or some images."""
    streams = sum(is_stream(path) or path.is_dir() for path in inputs)
    return max(1, streams, -(-len(inputs) // IMAGES_A_PART))


def shard_of(shard: str | None) -> tuple[int, int]:
    """Return the index of the first input to do, and the step to the next one; see `--shard`.

    Raises:
        OptionError: if it is not two numbers, the first from 1 to the second.
    """
    if shard is None:
        return 0, 1
    part, _, parts = shard.partition("/")
    numbers = part.isdecimal() and parts.isdecimal() and len(shard) <= MAX_SHARD_TEXT
    if not (numbers and 1 <= int(part) <= int(parts)):
        raise OptionError(f"--shard takes I/N, such as 1/8 to 8/8, not {quoted(shard)}")
    return int(part) - 1, int(parts)
