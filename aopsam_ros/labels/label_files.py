"""The files of label sets: a folder of labels.yaml and an archive; text embeddings."""

import contextlib
import fcntl
import hashlib
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from aopsam_ros.bundle.fields import Fields
from aopsam_ros.errors import BundleError, InputError, first_line
from aopsam_ros.images.files import read_bytes, write_bytes
from aopsam_ros.labels.label_set import MARGIN, MIN_SIMILARITY, MOST_LABELS, LabelSet, checked_name
from aopsam_ros.prompting.features import unit_length

LABELS_FILE = "labels.yaml"
TEXT_SUFFIX = ".npz"  # of a file of text embeddings
MAX_BYTES = 1 << 29  # of an archive
_ARCHIVE = re.compile(r"prototypes\.[0-9a-f]{8}\.npz")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other nodes, of any process, from adding to a label set, or reading it, meanwhile.

    Where the folder above cannot be locked, as on some network drives, nothing does.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            handle = os.open(folder.parent, os.O_RDONLY)  # the folder itself may not exist yet
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def save_label_set(labels: LabelSet, folder: Path) -> None:
    """Write the set, whole or not at all.

    The archive of the one before is deleted: who has read its labels.yaml must have it `locked`.

    Raises:
        OSError: if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez(buffer, prototypes=labels.prototypes, label_of=labels.label_of)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    archive = f"prototypes.{digest[:8]}.npz"
    content = {
        "features": labels.features,
        "names": list(labels.names),
        "min_similarity": round(labels.min_similarity, 4),
        "margin": round(labels.margin, 4),
        "prototypes": {"file": archive, "sha256": digest},
    }
    write_bytes(folder / archive, buffer.getvalue())
    write_bytes(folder / LABELS_FILE, yaml.safe_dump(content, sort_keys=False).encode())
    for old in folder.glob("prototypes.*.npz"):
        if old.name != archive and _ARCHIVE.fullmatch(old.name):
            old.unlink(missing_ok=True)


def holds_label_set(folder: Path) -> bool:
    """Tell whether a label set lies in a folder.

    Raises:
        InputError: if the folder may not be looked into.
    """
    try:
        return (folder / LABELS_FILE).exists()
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror or error}") from None


def load_label_set(folder: Path) -> LabelSet:
    """Read a label set.

    Raises:
        InputError: if it is missing, malformed or altered; the message names the file.
    """
    file = folder / LABELS_FILE
    try:
        fields = Fields(file, yaml.safe_load(read_bytes(file)))
        names = _names(fields)
        entry = fields.inner("prototypes")
        archive, digest = entry.text("file"), entry.text("sha256")
        if not _ARCHIVE.fullmatch(archive):
            raise entry.error("file", "prototypes.<8 hexadecimal digits>.npz", archive)
        prototypes, label_of = _read_archive(folder / archive, digest, len(names))
        return LabelSet(
            features="" if fields.any("features") == "" else fields.text("features"),
            names=names,
            prototypes=prototypes,
            label_of=label_of,
            min_similarity=fields.number("min_similarity", 0.0, 1.0, MIN_SIMILARITY),
            margin=fields.number("margin", 0.0, 1.0, MARGIN),
        )
    except InputError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = first_line(error)
        raise InputError(f"{file}: not readable as YAML: {reason}") from None
    except BundleError as error:
        raise InputError(str(error)) from None


def load_text_embeddings(file: Path) -> LabelSet:
    """Read names and their embeddings by a text encoder: a label set without thresholds.

    The file is an .npz with `names` `[n]`, text, and `embeddings` `[n, E]`, float32.

    Raises:
        InputError: if it is missing or malformed.
    """
    names, embeddings = _read_arrays(file, {"names": np.str_, "embeddings": np.float32})
    fits = embeddings.ndim == 2 and names.shape == (len(embeddings),) and len(names) <= MOST_LABELS
    if not fits or not np.isfinite(embeddings).all():
        raise InputError(
            f"{file}: embeddings must be finite [n, E], and names [n], at most {MOST_LABELS}"
        )
    texts = _checked_names(file, names.tolist())
    return LabelSet("", texts, unit_length(embeddings), np.arange(len(texts)), 0.0, 0.0)


def _names(fields: Fields) -> tuple[str, ...]:
    names = fields.any("names")
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not is_list or len(names) > MOST_LABELS:
        raise fields.error("names", f"a list of at most {MOST_LABELS} names", names)
    return _checked_names(fields.file, names)


def _checked_names(file: Path, names: Iterable[str]) -> tuple[str, ...]:
    """Return a file's names without spaces around them, once they are possible and all differ."""
    try:
        texts = tuple(map(checked_name, names))
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    if len(set(texts)) != len(texts):
        raise InputError(f"{file}: names are not all different")
    return texts


def _read_archive(
    path: Path, digest: str, labels: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    types = {"prototypes": np.float32, "label_of": np.int64}
    prototypes, label_of = _read_arrays(path, types, digest)
    fits = prototypes.ndim == 2 and label_of.shape == (len(prototypes),)
    if not fits or not np.isfinite(prototypes).all():
        raise InputError(f"{path}: prototypes must be finite [P, D], and label_of [P]")
    if len(label_of) and not 0 <= label_of.min() <= label_of.max() < labels:
        raise InputError(f"{path}: a prototype's label is not one of the {labels} names")
    return prototypes, label_of


def _read_arrays(path: Path, types: Mapping[str, type], digest: str = "") -> list[NDArray[Any]]:
    """Read arrays of an archive by name, as these types; its sha256 is checked where given."""
    with contextlib.suppress(OSError):  # reading it says why
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: more than {MAX_BYTES} bytes")
    content = read_bytes(path)
    if digest and hashlib.sha256(content).hexdigest() != digest:
        raise InputError(f"{path}: damaged, its sha256 is not the one in {LABELS_FILE}")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return [np.asarray(archive[name], kind) for name, kind in types.items()]
    except Exception as error:  # NumPy's, and of zipfile and zlib, of many kinds
        reason = first_line(error)
        raise InputError(f"{path}: not an archive of {', '.join(types)} ({reason})") from None
