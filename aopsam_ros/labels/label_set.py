"""A label set: names, prototypes of each, thresholds; a folder of labels.yaml and an archive."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from aopsam_ros.bundle.fields import Fields
from aopsam_ros.errors import BundleError, InputError
from aopsam_ros.images.files import read_bytes, write_bytes
from aopsam_ros.prompting.features import unit_length

LABELS_FILE = "labels.yaml"
TEXT_SUFFIX = ".npz"  # of a file of text embeddings
NEAREST = 3  # prototypes of a label that a mask is compared with: its nearest ones
MOST_PROTOTYPES = 64  # of one label; further ones take the place of the oldest
MOST_LABELS = 4096
MAX_BYTES = 1 << 29  # of the archive
MIN_SIMILARITY, MARGIN = 0.75, 0.02  # where nothing else is known; docs/robot.md has the trial
OWN = -1.0  # threshold: the label set's own
_NAME_LENGTH = 64
_ARCHIVE = re.compile(r"prototypes\.[0-9a-f]{8}\.npz")


@dataclass(frozen=True)
class LabelOptions:
    """Which label is near enough; each field is the parameter `labels.<field>`."""

    min_similarity: float = OWN  # least similarity of a mask and its label
    margin: float = OWN  # by how much the next label must be less similar
    merge: bool = False  # masks of one label that belong to one thing are united
    # by which share of the nearer one's depth masks of one thing may differ, where depth is known
    depth_tolerance: float = 0.2


@dataclass(frozen=True)
class LabelSet:
    """Named prototypes: unit features of example masks, float32 `[P, D]`.

    `label_of` int64 `[P]` is each prototype's place in `names`. `features` says which encoder made
    them: those of another one cannot be compared. It is empty in a set without prototypes.
    """

    features: str
    names: tuple[str, ...]
    prototypes: NDArray[np.float32]
    label_of: NDArray[np.int64]
    min_similarity: float = MIN_SIMILARITY
    margin: float = MARGIN

    @classmethod
    def empty(cls, features: str = "") -> LabelSet:
        """Return a set that knows nothing yet."""
        return cls(features, (), np.zeros((0, 0), np.float32), np.zeros(0, np.int64))

    def added(self, name: str, examples: NDArray[np.float32]) -> LabelSet:
        """Return the set with further examples of a label, unit features `[n, D]`, new ones last.

        Raises:
            InputError: if the name is not 1 to 64 printable characters, or there are too many.
        """
        name = checked_name(name)
        names = self.names if name in self.names else (*self.names, name)
        if len(names) > MOST_LABELS:
            raise InputError(f"a label set has at most {MOST_LABELS} labels")
        place = names.index(name)
        known = self.prototypes if len(self.prototypes) else examples[:0]
        prototypes = np.concatenate((known, examples))
        label_of = np.append(self.label_of, np.full(len(examples), place))
        own = np.flatnonzero(label_of == place)
        kept = np.setdiff1d(np.arange(len(label_of)), own[:-MOST_PROTOTYPES])
        return replace(self, names=names, prototypes=prototypes[kept], label_of=label_of[kept])

    def only(self, names: Sequence[str]) -> LabelSet:
        """Return the set with some of its labels; no names: with all.

        Raises:
            InputError: if it lacks one.
        """
        missing = [name for name in names if name not in self.names]
        if missing:
            raise InputError(f"no label {', '.join(missing)} among {len(self.names)}")
        if not names:
            return self
        places = np.array([self.names.index(name) for name in names])
        kept = np.isin(self.label_of, places)
        label_of = (self.label_of[kept][:, None] == places).argmax(axis=1)
        return replace(
            self, names=tuple(names), prototypes=self.prototypes[kept], label_of=label_of
        )

    def count(self, name: str) -> int:
        """Count a label's prototypes."""
        return int(np.count_nonzero(self.label_of == self.names.index(name)))

    def similarity(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compare unit features `[n, D]` with every label: `[n, labels]`, -1 to 1.

        A label is as similar as the mean of its nearest prototypes is: things of one name look
        different, and the mean of all of them is similar to none.
        """
        cosines = features @ self.prototypes.T
        table = np.full((len(features), len(self.names)), -1.0, np.float32)
        for place in np.unique(self.label_of):
            own = np.sort(cosines[:, self.label_of == place], axis=1)
            table[:, place] = own[:, -NEAREST:].mean(axis=1)
        return table

    def nearest(
        self, features: NDArray[np.float32], options: LabelOptions | None = None
    ) -> list[tuple[str, float]]:
        """Return each feature's label and similarity; "" and 0 where none is near enough.

        Args:
            features: unit length, float32 `[n, D]`.
            options: thresholds; the set's own where None.
        """
        if not self.names or not len(features):
            return [("", 0.0)] * len(features)
        chosen = options or LabelOptions()
        least = self.min_similarity if chosen.min_similarity == OWN else chosen.min_similarity
        margin = self.margin if chosen.margin == OWN else chosen.margin
        table = self.similarity(features)
        order = np.argsort(-table, axis=1, kind="stable")
        best = np.take_along_axis(table, order[:, :2], axis=1)
        is_near = best[:, 0] >= least
        if best.shape[1] > 1:
            is_near &= best[:, 0] - best[:, 1] >= margin
        return [
            (self.names[place], float(np.clip(score, 0.0, 1.0))) if near else ("", 0.0)
            for place, score, near in zip(order[:, 0], best[:, 0], is_near, strict=True)
        ]

    def save(self, folder: Path) -> None:
        """Write the set; who reads meanwhile finds the old one or the new one, whole.

        Raises:
            OSError: if the folder cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.savez(buffer, prototypes=self.prototypes, label_of=self.label_of)
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        archive = f"prototypes.{digest[:8]}.npz"
        content = {
            "features": self.features,
            "names": list(self.names),
            "min_similarity": round(self.min_similarity, 4),
            "margin": round(self.margin, 4),
            "prototypes": {"file": archive, "sha256": digest},
        }
        write_bytes(folder / archive, buffer.getvalue())
        write_bytes(folder / LABELS_FILE, yaml.safe_dump(content, sort_keys=False).encode())
        for old in folder.glob("prototypes.*.npz"):
            if old.name != archive and _ARCHIVE.fullmatch(old.name):
                old.unlink(missing_ok=True)


def load_label_set(folder: Path) -> LabelSet:
    """Read a label set.

    Raises:
        InputError: if it is missing, malformed or altered; the message names the file.
    """
    file = folder / LABELS_FILE
    try:
        fields = Fields(file, yaml.safe_load(read_bytes(file)))
        names = _names(fields)
        entry = Fields(file, fields.any("prototypes"), "prototypes")
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
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{file}: not readable as YAML: {reason}") from None
    except BundleError as error:
        raise InputError(str(error)) from None


def load_text_embeddings(file: Path) -> LabelSet:
    """Read names and their embeddings by a text encoder: a label set without thresholds.

    Args:
        file: .npz with `names` `[n]`, text, and `embeddings` `[n, E]`, float32.

    Raises:
        InputError: if it is missing or malformed.
    """
    names, embeddings = _read_arrays(file, {"names": np.str_, "embeddings": np.float32})
    fits = embeddings.ndim == 2 and names.shape == (len(embeddings),) and len(names) <= MOST_LABELS
    if not fits or not np.isfinite(embeddings).all():
        raise InputError(
            f"{file}: embeddings must be finite [n, E], and names [n], at most {MOST_LABELS}"
        )
    texts = tuple(map(checked_name, names.tolist()))
    if len(set(texts)) != len(texts):
        raise InputError(f"{file}: names are not all different")
    return LabelSet("", texts, unit_length(embeddings), np.arange(len(texts)), 0.0, 0.0)


def checked_name(name: str) -> str:
    """Return a label without spaces around it.

    Raises:
        InputError: if it is not 1 to 64 printable characters.
    """
    name = name.strip()
    if not name or len(name) > _NAME_LENGTH or not name.isprintable():
        raise InputError(f"a label is 1 to {_NAME_LENGTH} printable characters, not {name[:80]!r}")
    return name


def _names(fields: Fields) -> tuple[str, ...]:
    names = fields.any("names")
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not is_list or len(set(names)) != len(names) or len(names) > MOST_LABELS:
        raise fields.error("names", f"a list of at most {MOST_LABELS} different names", names)
    return tuple(checked_name(name) for name in names)


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
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: more than {MAX_BYTES} bytes")
    content = read_bytes(path)
    if digest and hashlib.sha256(content).hexdigest() != digest:
        raise InputError(f"{path}: damaged, its sha256 is not the one in {LABELS_FILE}")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return [np.asarray(archive[name], kind) for name, kind in types.items()]
    except (
        OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile,
    ) as error:  # fmt: skip
        raise InputError(f"{path}: not an archive of {', '.join(types)} ({error})") from None
