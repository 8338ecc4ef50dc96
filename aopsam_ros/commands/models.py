"""`aopsam models`: list, fetch and verify bundles and published weights."""

import argparse
import sys
from pathlib import Path

from aopsam_ros.bundle.loading import Bundle, available, find_bundle, load_bundle
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.errors import AopsamError, BundleError, InputError, OptionError, first_line
from aopsam_ros.weights.fetching import cached_path, check_file, fetch, fetch_from_file
from aopsam_ros.weights.known import KNOWN, Weights

FAILED = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("action", choices=["list", "fetch", "verify"], help="what to do")
    parser.add_argument(
        "model",
        nargs="*",
        help="list, verify: bundles by name or folder, weights by name (default: all);"
        f" fetch: weights by name ({', '.join(KNOWN)})",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="fetch: take this copy instead of downloading; it is checked as well",
    )


def run(arguments: argparse.Namespace) -> int:
    """List bundles and weights, fetch weights, or check those that are installed.

    Returns:
        0, or 2 if a bundle or weights cannot be used: this does not stop the others.
    """
    if arguments.source is not None and (arguments.action != "fetch" or len(arguments.model) != 1):
        raise OptionError("--from goes with `fetch` and one name")
    if arguments.action == "fetch":
        _fetch(arguments.model, arguments.source)
        return 0
    bundles, weights = _sort(arguments.model)
    is_check, code = arguments.action == "verify", 0
    if is_check and not arguments.model:  # nobody asked for the others
        weights = [entry for entry in weights if cached_path(entry).exists()]
    entries: list[str | Weights] = [*bundles, *weights]
    for entry in entries:
        try:
            print(_verify(entry) if is_check else _describe(entry))
        except (AopsamError, OSError) as error:
            print(f"aopsam: error: {first_line(error)}", file=sys.stderr)
            code = FAILED
    return code


def _fetch(names: list[str], source: Path | None) -> None:
    if not names:
        raise InputError(f"say what to fetch: {', '.join(KNOWN)}")
    for name in names:
        if name not in KNOWN:
            raise InputError(f"unknown weights '{name}'; known: {', '.join(KNOWN)}")
    for weights in [KNOWN[name] for name in names]:
        path = fetch(weights) if source is None else fetch_from_file(weights, source)
        print(f"{path}  {weights.licence}  {weights.outcome}")


def _sort(names: list[str]) -> tuple[list[str], list[Weights]]:
    """Sort names into those of bundles and weights; one can be both. Without names, return all."""
    if not names:
        return available(), list(KNOWN.values())
    bundles = [name for name in names if name not in KNOWN or _is_bundle(name)]
    return bundles, [KNOWN[name] for name in names if name in KNOWN]


def _is_bundle(name: str) -> bool:
    try:
        find_bundle(name)
    except BundleError:
        return False
    return True


def _verify(entry: str | Weights) -> str:
    """Check a bundle, by its name, or weights; return their line."""
    if isinstance(entry, Weights):
        check_file(entry, cached_path(entry))
        return f"{_describe(entry)}  {entry.outcome}"
    bundle = load_bundle(entry)
    create_engine(bundle, EngineOptions(engine="onnxruntime")).close()
    for graph in bundle.all_graphs:  # those for other engines or precisions, too
        graph.read()
    return f"{_describe_bundle(bundle)}  verified"


def _describe(entry: str | Weights) -> str:
    if isinstance(entry, Weights):
        return _describe_weights(entry)
    return _describe_bundle(load_bundle(entry))


def _describe_bundle(bundle: Bundle) -> str:
    paths = [graph.path for graph in bundle.all_graphs]
    size = sum(path.stat().st_size for path in paths if path.exists())
    return (
        f"{bundle.name} {bundle.version}  {bundle.image_size} px  {size / 1e6:.1f} MB  "
        f"{bundle.licence}  {bundle.folder}"
    )


def _describe_weights(weights: Weights) -> str:
    path = cached_path(weights)
    where = str(path) if path.exists() else f"not fetched: aopsam models fetch {weights.name}"
    size = f"{weights.size / 1e6:.1f}" if weights.size else f"about {weights.about / 1e6:.0f}"
    return f"{weights.file}  {weights.description}  {size} MB  {weights.licence}  {where}"
