"""`aopsam import`: graphs that others exported to ONNX in, a model bundle out; without PyTorch."""

import argparse
from pathlib import Path

import numpy as np

from aopsam_ros.bundle.loading import DECODER, ENCODER, IMAGE_SIZES, load_bundle
from aopsam_ros.commands.arguments import add_prompter_argument, load_prompter, require
from aopsam_ros.errors import OptionError
from aopsam_ros.models.bundle_files import SAM_THRESHOLDS
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.weights.fetching import file_sha256, resolve_checkpoint
from aopsam_ros.weights.known import KNOWN

# ImageNet's mean and standard deviation, as SAM, NanoSAM and SAM 2 take them.
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    for part in (ENCODER, "decoder"):
        parser.add_argument(
            f"--{part}",
            required=True,
            metavar="FILE",
            help="ONNX file, or the name of one that `aopsam models fetch` stored",
        )
    parser.add_argument("--out", type=Path, required=True, help="the bundle's folder")
    parser.add_argument("--name", help="of the model (the folder's)")
    parser.add_argument("--version", default="0.1.0", help="of the model (%(default)s)")
    parser.add_argument("--licence", help="of the weights (a fetched encoder's: its own)")
    parser.add_argument(
        "--resize",
        choices=["pad", "stretch"],
        help="how images become squares (SAM 2's graphs: stretch, others: pad)",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        default=1024,
        help="where the encoder leaves it open (%(default)s)",
    )
    for name, values in (("mean", MEAN), ("std", STD)):
        parser.add_argument(
            f"--{name}",
            nargs=3,
            type=float,
            default=values,
            help="per channel of RGB from 0 to 255 (%(default)s)",
        )
    add_prompter_argument(parser)
    parser.add_argument(
        "--thresholds",
        nargs=2,
        type=float,
        default=SAM_THRESHOLDS,
        metavar=("IOU", "STABILITY"),
        help="that masks need (%(default)s, SAM's)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Wrap the graphs, write the bundle, and check it by segmenting an empty image."""
    require(("onnx",), "importing needs onnx", "pip install onnx")
    from aopsam_ros.models.bundle_files import new_bundle, write_description
    from aopsam_ros.models.prompter import add_prompter
    from aopsam_ros.models.published.decoders import wrap_decoder
    from aopsam_ros.models.published.encoders import wrap_encoder
    from aopsam_ros.models.stored_weights import save_graph

    least, most = IMAGE_SIZES
    if not least <= arguments.image_size <= most:
        raise OptionError(f"--image-size must be from {least} to {most}")
    out, prompter = arguments.out, load_prompter(arguments)
    files = {
        ENCODER: resolve_checkpoint(arguments.encoder),
        DECODER: resolve_checkpoint(arguments.decoder),
    }
    encoder = wrap_encoder(files[ENCODER], arguments.mean, arguments.std, arguments.image_size)
    decoder, mask_side = wrap_decoder(files[DECODER], encoder)
    known = KNOWN.get(arguments.encoder)
    iou, stability = arguments.thresholds
    mask = {"predicted_iou_threshold": iou, "stability_threshold": stability}
    facts = {
        "name": arguments.name or out.resolve().name,
        "version": arguments.version,
        "licence": arguments.licence or (known.licence if known else "unknown"),
        "image_size": encoder.image_size,
        "resize": arguments.resize or ("stretch" if encoder.fine_maps else "pad"),
        "mean": list(arguments.mean),
        "std": list(arguments.std),
        "embedding_shape": list(encoder.embedding_shape),
        "similarity_channels": encoder.channels,
        "low_res_mask_size": mask_side,
    }
    origin = {n: {"file": path.name, "sha256": file_sha256(path)} for n, path in files.items()}
    with new_bundle(out) as work:
        for name, model in ((ENCODER, encoder.model), (DECODER, decoder)):
            save_graph(model, work / f"{name}.onnx")
        write_description(work, facts, {"mask": mask, "grid": mask}, {"imported": origin})
        _try(work)
        if prompter is not None:
            add_prompter(load_bundle(work), prompter, work)
    print(out)


def _try(bundle: Path) -> None:
    """Decode three prompts on an empty image: all that is wrong with the graphs is an error."""
    rgb = np.zeros((48, 64, 3), np.uint8)
    with Segmenter.from_bundle(bundle, "grid1", "onnxruntime") as segmenter:
        points = np.array([[[8.0, 8.0]], [[32.0, 24.0]], [[60.0, 40.0]]])
        segmenter.decode(segmenter.encode(rgb), points, np.ones((3, 1)))
