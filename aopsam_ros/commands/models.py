"""`aopsam models`: list, fetch and verify bundles and published weights."""

import argparse
from pathlib import Path

from aopsam_ros.bundle.loading import Bundle, available, find_bundle, load_bundle
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.errors import BundleError, InputError, OptionError
from aopsam_ros.weights.fetching import cached_path, check_file, fetch, fetch_from_file
from aopsam_ros.weights.known import KNOWN, Weights


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


def run(arguments: argparse.Namespace) -> None:
    """List bundles and weights, fetch weights, or check those that are installed."""
    if arguments.source is not None and (arguments.action != "fetch" or len(arguments.model) != 1):
        raise OptionError("--from goes with `fetch` and one name")
    if arguments.action == "fetch":
        _fetch(arguments.model, arguments.source)
        return
    bundles, weights = _sort(arguments.model)
    is_check = arguments.action == "verify"
    for bundle in bundles:
        if is_check:
            create_engine(bundle, EngineOptions(engine="onnxruntime")).close()
            for graph in bundle.all_graphs:  # those for other engines or precisions, too
                graph.read()
        print(_describe_bundle(bundle) + ("  verified" if is_check else ""))
    for entry in weights:
        if is_check and not arguments.model and not cached_path(entry).exists():
            continue  # nobody asked for these
        if is_check:
            check_file(entry, cached_path(entry))
        print(_describe_weights(entry) + (f"  {entry.outcome}" if is_check else ""))


def _fetch(names: list[str], source: Path | None) -> None:
    if not names:
        raise InputError(f"say what to fetch: {', '.join(KNOWN)}")
    for name in names:
        if name not in KNOWN:
            raise InputError(f"unknown weights '{name}'; known: {', '.join(KNOWN)}")
    for weights in [KNOWN[name] for name in names]:
        path = fetch(weights) if source is None else fetch_from_file(weights, source)
        print(f"{path}  {weights.licence}  {weights.outcome}")


def _sort(names: list[str]) -> tuple[list[Bundle], list[Weights]]:
    """Sort names into bundles and weights; one can be both. Without names, return all."""
    if not names:
        return [load_bundle(name) for name in available()], list(KNOWN.values())
    bundles = [load_bundle(name) for name in names if name not in KNOWN or _is_bundle(name)]
    return bundles, [KNOWN[name] for name in names if name in KNOWN]


def _is_bundle(name: str) -> bool:
    try:
        find_bundle(name)
    except BundleError:
        return False
    return True


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
