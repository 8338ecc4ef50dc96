"""`aopsam quantize`: a bundle with graphs in 8 bits, for ONNX Runtime on a CPU."""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import Bundle, load_bundle
from aopsam_ros.commands.arguments import check_threads, require
from aopsam_ros.data.frames import FrameSource
from aopsam_ros.data.recordings import open_frames
from aopsam_ros.errors import DatasetError, InputError, OptionError
from aopsam_ros.evaluation.images import spread
from aopsam_ros.geometry import preprocess

if TYPE_CHECKING:
    from aopsam_ros.models.quantization import QuantizationReport

_LOGGER = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("model", help="bundle's name or folder")
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="DIR",
        help="images like those to come, without labels: folders of them (or of their images/),"
        " videos, or recordings (rosbag2 folders, .mcap, .db3)",
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=64,
        help="images in all, spread evenly; at least one of each (%(default)s)",
    )
    parser.add_argument(
        "--threads", type=int, default=0, help="CPU threads of the comparison (0: all)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new bundle")


def run(arguments: argparse.Namespace) -> None:
    """Write the bundle, and say how its graphs in 8 bits compare with those in 32."""
    if arguments.limit < 1:
        raise OptionError("--limit must be at least 1")
    check_threads(arguments.threads)
    modules = ("onnx", "onnxruntime.quantization")
    require(modules, "quantising needs onnx", "`make setup EXTRAS=train` or `pip install onnx`")
    from aopsam_ros.models.quantization import quantize_bundle

    bundle = load_bundle(arguments.model)
    images = _images(bundle, [_open(Path(path)) for path in arguments.data], arguments.limit)
    for report in quantize_bundle(bundle, arguments.out, images, arguments.threads):
        _print(report)
    print("what it costs in quality: aopsam evaluate --precision int8, and fp32")
    print(arguments.out)


def _open(path: Path) -> FrameSource:
    """Open images; of a labelled data set, those in its `images/`."""
    return open_frames(path / "images" if (path / "images").is_dir() else path)


def _images(bundle: Bundle, sources: list[FrameSource], limit: int) -> list[NDArray[np.float32]]:
    share = max(1, limit // len(sources))
    images = [
        preprocess(rgb, bundle.image_size, bundle.mean, bundle.std, bundle.resize).tensor
        for source in sources
        for rgb in _read_some(source, share)
    ]
    if not images:
        raise DatasetError("none of the images can be read")
    return images


def _read_some(source: FrameSource, count: int) -> Iterator[NDArray[np.uint8]]:
    """Read some images, evenly spread; those that cannot be read are left out."""
    # Some videos do not declare their length; counting decodes nothing.
    length = len(source) or sum(1 for _ in source.frames())
    chosen = set(spread(range(length), count))
    for number, frame in enumerate(source.frames()):
        if number not in chosen:
            continue
        try:
            yield frame.read()
        except InputError as error:
            _LOGGER.warning("%s: %s left out: %s", source.name, frame.name, error)


def _print(report: QuantizationReport) -> None:
    least = math.floor(report.cosine * 1e4) / 1e4  # not rounded up: it is a bound
    before, after = report.bytes_before / 1e6, report.bytes_after / 1e6
    print(
        f"{report.graph}: {before:.1f} MB in 32 bits, {after:.1f} MB more in 8; cosine of its"
        f" outputs at least {least:.4f}; {report.time_ratio:.2f} of the time, on this machine"
    )
    if report.time_ratio >= 1:
        _LOGGER.warning("this %s is not faster in 8 bits on this machine", report.graph)
