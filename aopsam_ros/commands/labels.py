"""`aopsam labels`: a label set from labelled images."""

import argparse
import contextlib
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from aopsam_ros.commands.arguments import (
    add_data_arguments,
    add_engine_arguments,
    engine_options,
    make_folder,
    open_datasets,
)
from aopsam_ros.errors import DatasetError, OptionError, quoted
from aopsam_ros.labels.examples import Examples
from aopsam_ros.labels.label_files import LABELS_FILE, save_label_set
from aopsam_ros.labels.semantic_encoder import SemanticEncoder
from aopsam_ros.segmentation.segmenter import Segmenter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_data_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the label set")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="classes to take (all)"
    )
    parser.add_argument("--model", default="nano", help="bundle that labels are for (%(default)s)")
    add_engine_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Build the set and print what it holds."""
    from aopsam_ros.evaluation.images import choose_images, named_masks

    if (arguments.out / LABELS_FILE).exists():
        raise OptionError(f"{arguments.out}: holds a label set already; name a new folder")
    chosen = list(choose_images(open_datasets(arguments), arguments.limit))
    engine = engine_options(arguments)
    make_folder(arguments.out)
    with (
        Segmenter.from_bundle(arguments.model, "grid1", engine) as segmenter,
        contextlib.closing(SemanticEncoder(segmenter, engine)) as encoder,
    ):
        examples = Examples(encoder)
        for dataset, index in tqdm(chosen, unit="image", desc="labels", file=sys.stderr):
            labelled = dataset.read(index)
            named = [
                (name, mask)
                for name, mask in named_masks(labelled)
                if not arguments.only or name in arguments.only
            ]
            if named:
                frame = segmenter.encode(labelled.rgb)
                examples.add(labelled.rgb, frame, named)
    if not len(examples):
        wanted = " or ".join(map(quoted, arguments.only))
        reason = f"is of {wanted}" if wanted else "has a class"
        raise DatasetError(f"no instance of at least 0.1 % of an image {reason}")
    labels = examples.label_set()
    for name in sorted({*arguments.only}.difference(labels.names)):
        print(f"no instance of at least 0.1 % of an image is of {quoted(name)}", file=sys.stderr)
    save_label_set(labels, arguments.out)
    counts = np.bincount(labels.label_of, minlength=len(labels.names))
    for name, count in zip(labels.names, counts.tolist(), strict=True):
        print(f"{name:30} {count:4d} prototypes")
    print(
        f"{len(examples)} examples of {len(labels.names)} labels; least similarity "
        f"{labels.min_similarity:.2f}, margin {labels.margin:.2f} -> {arguments.out}"
    )
