"""The files of a bundle that is being written: their hashes, and moving them into place."""

import contextlib
import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from aopsam_ros.bundle.loading import BUNDLE_FILE, GRAPHS, SPLIT, Bundle, load_bundle
from aopsam_ros.errors import BundleError
from aopsam_ros.images.files import write_bytes

MIXED_SUFFIX = ".mixed.onnx"
# Least predicted IoU and stability of a mask in SAM's automatic mask generator.
SAM_THRESHOLDS = 0.88, 0.95
_UNFINISHED = ".unfinished-"  # how the folder of a bundle that is being written begins
_WRITTEN_S = 86_400.0  # after so long it is finished, or never will be


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
    provenance: Mapping[str, object],
) -> None:
    """Write bundle.yaml for the graphs that lie in a folder; `facts` are its fields before them."""
    description = dict(facts)
    for key, names, suffix in (
        ("graphs", GRAPHS, ".onnx"),
        ("split_graphs", SPLIT, ".onnx"),
        ("mixed_graphs", GRAPHS, MIXED_SUFFIX),
    ):
        if found := describe_graphs(work, (f"{name}{suffix}" for name in names)):
            description[key] = found
    save_description(work, {**description, "defaults": dict(defaults), "provenance": provenance})


def read_description(bundle: Bundle) -> dict[str, Any]:
    """Return what a bundle's bundle.yaml holds, to be changed."""
    description: dict[str, Any] = yaml.safe_load((bundle.folder / BUNDLE_FILE).read_bytes())
    return description


def save_description(folder: Path, description: Mapping[str, object]) -> None:
    """Write bundle.yaml; the file is never half written."""
    content = yaml.safe_dump(dict(description), sort_keys=False, width=100)
    write_bytes(folder / BUNDLE_FILE, content.encode())


def check_target(folder: Path) -> None:
    """Refuse to write among files that are not a bundle's.

    Raises:
        BundleError: if the folder is a file, or holds something else than a bundle.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BundleError(f"{folder}: is a file; choose a folder for the bundle")
    others = [file for file in folder.iterdir() if not file.name.startswith(_UNFINISHED)]
    if others and not (folder / BUNDLE_FILE).exists():
        raise BundleError(f"{folder}: holds other files; choose a new folder, or a bundle's")


def change_description(folder: Path, changes: Mapping[str, object]) -> None:
    """Set keys of a bundle's bundle.yaml.

    Raises:
        BundleError: if the bundle cannot be loaded, as it is or with the changes.
    """
    file = load_bundle(folder).folder / BUNDLE_FILE
    before = file.read_bytes()
    save_description(folder, {**yaml.safe_load(before), **changes})
    try:
        load_bundle(folder)
    except BundleError:
        write_bytes(file, before)
        raise


@contextlib.contextmanager
def new_bundle(folder: Path, parts_of: Bundle | None = None) -> Iterator[Path]:
    """Yield a folder for the files of a bundle, which become `folder` once the block has ended.

    It begins with the graphs of `parts_of`, if any. Where the block raises, nothing changes.

    Raises:
        BundleError: if the folder holds something else than a bundle, or a graph is altered.
    """
    check_target(folder)
    # On the disk of `folder`, or the files could not be moved: it may be a link or a mount point.
    folder = folder.resolve()
    around = folder if folder.exists() else folder.parent
    around.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(around)
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=around) as temporary:
        work = Path(temporary)
        for graph in parts_of.all_graphs if parts_of is not None else ():
            (work / graph.path.name).write_bytes(graph.read())
        try:
            yield work
        except BundleError as error:  # of files that are gone in a moment
            raise BundleError(str(error).replace(temporary, str(folder))) from None
        _install(work, folder)


def _remove_leftovers(around: Path) -> None:
    """Remove what killed processes left unfinished, once nobody can be writing it any more."""
    for folder in around.glob(f"{_UNFINISHED}*"):
        with contextlib.suppress(OSError):  # another process may do the same
            if time.time() - folder.stat().st_mtime > _WRITTEN_S:
                shutil.rmtree(folder)


def _install(work: Path, folder: Path) -> None:
    """Move finished files into place, bundle.yaml last, and remove graphs of a former bundle."""
    folder.mkdir(exist_ok=True)
    files = {file.name for file in work.iterdir()}
    for name in sorted(files, key=lambda name: name == BUNDLE_FILE):
        (work / name).replace(folder / name)
    for file in folder.glob("*.onnx"):
        if file.name not in files:
            file.unlink()
