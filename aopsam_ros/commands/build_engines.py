"""`aopsam build-engines`: TensorRT engines built beforehand, as for a robot's image."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.commands.arguments import make_folder
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.engine_cache import EngineCache
from aopsam_ros.engines.registry import FLOATS
from aopsam_ros.engines.tensorrt.engine import TensorRtEngine
from aopsam_ros.user_folders import make_private


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("model", help="bundle's name or folder")
    parser.add_argument(
        "--precision",
        choices=FLOATS,
        default=FLOATS[0],
        help="auto and fp16: 16 bits where results stay right; fp32: never (%(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="for the engines, instead of the user's cache; programs find them there when"
        " AOPSAM_ENGINE_CACHE names it",
    )


def run(arguments: argparse.Namespace) -> None:
    """Build what is not there yet, on the GPU that is to run it, and verify it."""
    bundle = load_bundle(arguments.model)
    cache = EngineCache(arguments.out)
    make_private(cache.folder)  # else engines would be built, but not kept
    make_folder(cache.folder)
    with tqdm(total=100, unit="%", file=sys.stderr, bar_format="{desc}: {elapsed}{postfix}") as bar:

        def show(what: str, share: float | None, _: float) -> None:
            bar.set_description_str(what, refresh=False)
            bar.set_postfix_str("" if share is None else f"{share:.0%}")

        options = EngineOptions(precision=arguments.precision)
        engine = TensorRtEngine(bundle, options, show, cache=cache)
    engine.close()
    for graph, precision in engine.precisions.items():
        print(f"{graph}: {precision.value}")
    print(cache.folder)
