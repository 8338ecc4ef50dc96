"""A label set: names, prototypes of each, thresholds, and which label is nearest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import InputError

NEAREST = 3  # prototypes of a label that a mask is compared with: its nearest ones
MOST_PROTOTYPES = 64  # of one label; further ones take the place of the oldest
MOST_LABELS = 4096
MIN_SIMILARITY, MARGIN = 0.75, 0.02  # where nothing else is known; docs/robot.md has the trial
OWN = -1.0  # threshold: the label set's own
_NAME_LENGTH = 64


@dataclass(frozen=True)
class LabelOptions:
    """Which label is near enough; each field is the parameter `labels.<field>`."""

    min_similarity: float = OWN  # least similarity of a mask and its label
    margin: float = OWN  # by how much the next label must be less similar
    merge: bool = False  # masks of one label that belong to one thing are united
    merge_affinity: float = 0.8  # probability of that from which two masks are united
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
            some = ", ".join(self.names[:10]) + ", …" * (len(self.names) > 10)
            raise InputError(f"no label {', '.join(missing)}; there are: {some or 'none'}")
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
        self, features: NDArray[np.float32], options: LabelOptions
    ) -> list[tuple[str, float]]:
        """Return each feature's label and similarity; "" and 0 where none is near enough.

        Features are of unit length, float32 `[n, D]`.
        """
        if not self.names or not len(features):
            return [("", 0.0)] * len(features)
        least = self.min_similarity if options.min_similarity == OWN else options.min_similarity
        margin = self.margin if options.margin == OWN else options.margin
        places, similarity, lead = self.ranked(features)
        is_near = (similarity >= least) & (lead >= margin)
        return [
            (self.names[place], float(np.clip(score, 0.0, 1.0))) if near else ("", 0.0)
            for place, score, near in zip(places, similarity, is_near, strict=True)
        ]

    def ranked(
        self, features: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """Return each feature's nearest label, its similarity, and its lead over the next label."""
        table = self.similarity(features)
        others = np.full((len(table), 1), -1.0, np.float32)  # where there is one label only
        two = -np.sort(-np.hstack((table, others)), axis=1)[:, :2]
        return table.argmax(axis=1), two[:, 0], two[:, 0] - two[:, 1]


def checked_name(name: str) -> str:
    """Return a label without spaces around it.

    Raises:
        InputError: if it is not 1 to 64 printable characters.
    """
    name = name.strip()
    if not name or len(name) > _NAME_LENGTH or not name.isprintable():
        raise InputError(f"a label is 1 to {_NAME_LENGTH} printable characters, not {name[:80]!r}")
    return name
