"""`aopsam models`: which bundles there are, and whether they are whole."""

from __future__ import annotations

import argparse

from aopsam_ros.runtime.bundle import Bundle, available, load_bundle
from aopsam_ros.runtime.engines import create_runtime


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("action", choices=["list", "verify"], help="what to do")
    parser.add_argument(
        "model", nargs="*", help="names or folders of bundles to verify (default: all by name)"
    )


def run(arguments: argparse.Namespace) -> int:
    """List the bundles, or load each one as the segmenter would.

    Raises:
        BundleError: if a bundle is malformed, altered or cannot be loaded.
    """
    bundles = [load_bundle(name) for name in arguments.model or available()]
    for bundle in bundles:
        if arguments.action == "verify":
            create_runtime(bundle).close()
        print(_line(bundle) + ("  verified" if arguments.action == "verify" else ""))
    if not bundles:
        print("no model bundle is installed")
    return 0


def _line(bundle: Bundle) -> str:
    size = sum(graph.path.stat().st_size for graph in bundle.graphs.values() if graph.path.exists())
    return (
        f"{bundle.name} {bundle.version}  {bundle.image_size} px  {size / 1e6:.1f} MB  "
        f"{bundle.licence}  {bundle.folder}"
    )
