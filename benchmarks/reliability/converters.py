"""What reads the messages, without a node around it: nothing but the package's errors comes out."""

from __future__ import annotations

import argparse
import collections
import random

import numpy as np
from std_msgs.msg import Header

from aopsam_ros.errors import AopsamError, InputError
from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.images.encodings import to_rgb
from aopsam_ros.masks.choosing import choose
from aopsam_ros.masks.rle import decode_full
from aopsam_ros.ros.messages.boxes import boxes_of
from aopsam_ros.ros.messages.camera import CalibratedCamera, calibration_mismatch
from aopsam_ros.ros.messages.depth import depth_to_metres
from aopsam_ros.ros.messages.images import bridge_reader
from aopsam_ros.ros.messages.targets import criteria_of
from aopsam_ros.ros.monitoring.logs import kind_of
from aopsam_ros.ros.services.segment_service import prompt_of
from support.drawn_masks import instance_of
from support.scenes import boxes_scene

from . import malformed

Random = random.Random
_SIZE = boxes_scene().shape[0]
_GEOMETRY = FrameGeometry(_SIZE, _SIZE, _SIZE, _SIZE, _SIZE)
_HEADER = Header(frame_id=malformed.FRAME)
_MASKS = [instance_of(np.ones((_SIZE, _SIZE), bool))]
_PIXELS = np.array([[0.0, 0.0], [64.0, 64.0], [127.0, 127.0]])


def _calibration(rng: Random) -> None:
    message = malformed.camera_info(rng)
    message.width = message.height = rng.choice((_SIZE, message.width))
    for rectified in (False, True):
        if reason := calibration_mismatch(message, _SIZE, _SIZE, _HEADER):
            raise InputError(reason)
        CalibratedCamera.of(message, rectified).rays(_PIXELS)


READERS = {
    "image": lambda rng: to_rgb(malformed.image(rng), bridge_reader()),
    "compressed": lambda rng: to_rgb(malformed.compressed(rng), bridge_reader()),
    "camera_info": _calibration,
    "depth": lambda rng: depth_to_metres(malformed.depth(rng)),
    "boxes": lambda rng: boxes_of(malformed.boxes(rng)),
    "prompt": lambda rng: prompt_of(malformed.segment(rng)).inside(_GEOMETRY),
    "selection": lambda rng: choose(_MASKS, criteria_of(malformed.selection(rng))),
    "mask": lambda rng: decode_full(malformed.mask(rng), _SIZE, _SIZE),
}


def read_all(count: int, seed: int = 0) -> dict[str, collections.Counter[str]]:
    """Read `count` malformed messages of every kind; the refusals, by reader and kind.

    Anything raised beside the package's own errors is passed on.
    """
    refusals: dict[str, collections.Counter[str]] = {}
    longest = 0
    with np.errstate(all="ignore"):
        for name, read in READERS.items():
            rng = random.Random(seed)
            found = refusals.setdefault(name, collections.Counter())
            for _ in range(count):
                try:
                    read(rng)
                except AopsamError as error:
                    found[kind_of(str(error))] += 1
                    longest = max(longest, str(error).count("\n"))
    assert not longest, "an error has more than one line"
    return refusals


def main() -> None:
    """Run and print the refusals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="messages of every kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, refusals in read_all(options.count, options.seed).items():
        print(f"{name}: {refusals.total()} of {options.count} refused")
        for kind, times in refusals.most_common():
            print(f"  {times:6} {kind[:120]}")


if __name__ == "__main__":
    main()
