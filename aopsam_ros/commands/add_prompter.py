"""`aopsam add-prompter`: a bundle that takes its prompts from another model."""

import argparse
from pathlib import Path

from aopsam_ros.bundle.loading import PREDICTOR, load_bundle
from aopsam_ros.commands.arguments import require
from aopsam_ros.errors import OptionError

INSTALL_ONNX = "`make setup EXTRAS=train` or `pip install onnx`"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("model", help="bundle's name or folder")
    parser.add_argument(
        "--prompter", default="nano", help="bundle whose prompts it takes (%(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the new bundle (the given one is changed)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Write the bundle, and say where its prompts come from."""
    host, prompter = load_bundle(arguments.model), load_bundle(arguments.prompter)
    out = arguments.out or host.folder
    if PREDICTOR in host.graphs and not host.prompter and out.resolve() == host.folder.resolve():
        raise OptionError(
            f"model '{host.name}' has a prompt predictor of its own, which would be lost: "
            "write another bundle with --out DIR"
        )
    require(("onnx",), "composing graphs needs onnx", INSTALL_ONNX)
    from aopsam_ros.models.prompter import add_prompter

    add_prompter(host, prompter, out)
    print(f"prompts from the predictor of {prompter.name} {prompter.version}")
    if host.score_weights is not None and load_bundle(out).score_weights is None:
        print("masks are ranked by predicted IoU until `aopsam calibrate` fits their score anew")
    print(out)
