"""The files of a bundle that is being written: their hashes, and moving them into place."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from aopsam_ros.bundle.loading import BUNDLE_FILE, GRAPHS, SPLIT, load_bundle
from aopsam_ros.errors import BundleError
from aopsam_ros.images.files import write_bytes

MIXED_SUFFIX = ".mixed.onnx"


def describe_graphs(work: Path, files: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the graphs that were written with their hashes, as bundle.yaml lists them."""
    return {
        file.partition(".")[0]: {
            "file": file,
            "sha256": hashlib.sha256((work / file).read_bytes()).hexdigest(),
        }
        for file in sorted(files)
        if (work / file).exists()
    }


def write_description(
    work: Path,
    facts: Mapping[str, object],
    defaults: Mapping[str, object],
    provenance: Mapping[str, object] | str,
) -> None:
    """Write bundle.yaml for the graphs that lie in a folder.

    Args:
        work: the folder.
        facts: its fields up to the graphs, in their order.
        defaults: options, by group.
        provenance: where the weights come from, by part or in words.
    """
    description = dict(facts)
    for key, names, suffix in (
        ("graphs", GRAPHS, ".onnx"),
        ("split_graphs", SPLIT, ".onnx"),
        ("mixed_graphs", GRAPHS, MIXED_SUFFIX),
    ):
        if found := describe_graphs(work, (f"{name}{suffix}" for name in names)):
            description[key] = found
    description |= {"defaults": dict(defaults), "provenance": provenance}
    text = yaml.safe_dump(description, sort_keys=False, width=100)
    (work / BUNDLE_FILE).write_text(text, encoding="utf-8")


def check_target(folder: Path) -> None:
    """Refuse to write among files that are not a bundle's.

    Raises:
        BundleError: if the folder is a file, or holds something else than a bundle.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BundleError(f"{folder}: is a file; choose a folder for the bundle")
    if any(folder.iterdir()) and not (folder / BUNDLE_FILE).exists():
        raise BundleError(f"{folder}: holds other files; choose a new folder, or a bundle's")


def change_description(folder: Path, changes: Mapping[str, object]) -> None:
    """Set keys of a bundle's bundle.yaml; the file is never half written.

    Raises:
        BundleError: if the bundle cannot be loaded, as it is or with the changes.
    """
    load_bundle(folder)
    file = folder / BUNDLE_FILE
    before = file.read_bytes()
    description: dict[str, Any] = {**yaml.safe_load(before), **changes}
    write_bytes(file, yaml.safe_dump(description, sort_keys=False, width=100).encode())
    try:
        load_bundle(folder)
    except BundleError:
        write_bytes(file, before)
        raise


def install(work: Path, folder: Path) -> None:
    """Move finished files into place, bundle.yaml last, and remove graphs of a former bundle."""
    folder.mkdir(exist_ok=True)
    files = {file.name for file in work.iterdir()}
    for name in sorted(files, key=lambda name: name == BUNDLE_FILE):
        (work / name).replace(folder / name)
    for file in folder.glob("*.onnx"):
        if file.name not in files:
            file.unlink()
