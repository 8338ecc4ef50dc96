"""A label set: which label is nearest, when none is, and what a folder keeps of it."""

import contextlib
import hashlib

import numpy as np
import pytest
import yaml

from aopsam_ros.errors import InputError
from aopsam_ros.labels.examples import fit_thresholds
from aopsam_ros.labels.label_files import (
    LABELS_FILE,
    load_label_set,
    load_text_embeddings,
    save_label_set,
)
from aopsam_ros.labels.label_set import MOST_PROTOTYPES, LabelOptions, LabelSet


def unit(*degrees):
    """Vectors of unit length at these angles; the cosine of two is that of their difference."""
    angles = np.radians(degrees)
    return np.stack((np.cos(angles), np.sin(angles)), axis=1).astype(np.float32)


@pytest.fixture
def labels():
    return LabelSet.empty("nano 1").added("mug", unit(0)).added("door", unit(90))


def test_a_mask_gets_the_nearest_label_with_its_cosine(labels):
    (mug, score), (door, _) = labels.nearest(unit(20, 80), LabelOptions())
    assert (mug, door) == ("mug", "door")
    assert score == pytest.approx(np.cos(np.radians(20)))


def test_unknown_is_an_answer(labels):
    too_far, between = LabelOptions(0.95, 0.0), LabelOptions(0.0, 0.1)
    assert labels.nearest(unit(20), too_far) == [("", 0.0)]
    assert labels.nearest(unit(44), between) == [("", 0.0)]
    assert labels.nearest(unit(180), LabelOptions()) == [("", 0.0)]
    assert LabelSet.empty().nearest(unit(0), LabelOptions()) == [("", 0.0)]
    assert labels.nearest(np.zeros((0, 2), np.float32), LabelOptions()) == []


def test_different_looks_of_one_label_are_not_averaged(labels):
    """A door seen from both sides: the mean of its examples would lie nearer to the mug's."""
    both = labels.added("door", unit(270, 272, 274, 88, 92))
    assert [name for name, _ in both.nearest(unit(272, 90, 3), LabelOptions())] == [
        "door",
        "door",
        "mug",
    ]


def test_a_label_keeps_its_newest_examples():
    labels = LabelSet.empty().added("mug", unit(*range(MOST_PROTOTYPES)))
    labels = labels.added("mug", unit(100))
    assert labels.count("mug") == MOST_PROTOTYPES
    np.testing.assert_array_equal(labels.prototypes[-1], unit(100)[0])
    np.testing.assert_array_equal(labels.prototypes[0], unit(1)[0])


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 65])
def test_impossible_names_are_refused(name):
    with pytest.raises(InputError, match="printable"):
        LabelSet.empty().added(name, unit(0))


def test_a_folder_keeps_everything_and_no_old_archive(labels, tmp_path):
    save_label_set(labels, tmp_path)
    labels = labels.added("tasse à café", unit(45))
    save_label_set(labels, tmp_path)
    found = load_label_set(tmp_path)
    assert (found.names, found.features) == (("mug", "door", "tasse à café"), "nano 1")
    np.testing.assert_array_equal(found.prototypes, labels.prototypes)
    np.testing.assert_array_equal(found.label_of, labels.label_of)
    assert len(list(tmp_path.iterdir())) == 2


def change(folder, **values):
    file = folder / LABELS_FILE
    content = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(content | values))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / LABELS_FILE).unlink(), "cannot be read"),
        (lambda folder: (folder / LABELS_FILE).write_text("names: [a"), "not readable as YAML"),
        (lambda folder: (folder / LABELS_FILE).write_text("names: [2020-13-45]"), "not readable"),
        (lambda folder: (folder / LABELS_FILE).write_text("- 1"), "mapping"),
        (lambda folder: next(folder.glob("*.npz")).write_bytes(b"PK"), "damaged"),
        (lambda folder: next(folder.glob("*.npz")).unlink(), "cannot be read"),
        (
            lambda folder: change(folder, names=["a", " a"]),
            "labels.yaml: names are not all different",
        ),
        (lambda folder: change(folder, names=[""]), "labels.yaml: a label is 1 to 64 printable"),
        (lambda folder: change(folder, names=["mug"]), "not one of the 1 names"),
        (lambda folder: change(folder, min_similarity="high"), "min_similarity"),
        (lambda folder: change(folder, prototypes={"file": "../x.npz", "sha256": "0"}), "file"),
    ],
)
def test_a_damaged_folder_is_refused_by_name(labels, tmp_path, damage, reason):
    save_label_set(labels, tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=reason) as refusal:
        load_label_set(tmp_path)
    assert str(tmp_path) in str(refusal.value)


def test_objects_in_an_archive_are_not_unpickled(labels, tmp_path):
    save_label_set(labels, tmp_path)
    archive = next(tmp_path.glob("*.npz"))
    np.savez(archive, prototypes=np.array([{}]), label_of=np.zeros(1, np.int64))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    change(tmp_path, prototypes={"file": archive.name, "sha256": digest})
    with pytest.raises(InputError, match="not an archive of prototypes"):
        load_label_set(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"names": ["a"]}, "not an archive of names, embeddings"),
        ({"names": ["a", "b"], "embeddings": np.eye(3)}, "embeddings must be finite"),
        ({"names": ["a"], "embeddings": [[np.nan]]}, "embeddings must be finite"),
        ({"names": ["a", " a"], "embeddings": np.eye(2)}, "names are not all different"),
        ({"names": [""], "embeddings": np.eye(1)}, "text.npz: a label is 1 to 64 printable"),
        ({"names": np.array([{}]), "embeddings": np.eye(1)}, "not an archive"),
        (None, "not an archive"),
    ],
)
def test_malformed_text_embeddings_are_refused(tmp_path, arrays, reason):
    file = tmp_path / "text.npz"
    with file.open("wb") as opened:
        np.savez(opened, **arrays) if arrays else np.save(opened, np.eye(2))
    with pytest.raises(InputError, match=reason):
        load_text_embeddings(file)


def test_text_embeddings_are_read_or_refused_wherever_the_file_is_damaged(tmp_path):
    file = tmp_path / "text.npz"
    np.savez_compressed(file, names=["a", "b"], embeddings=np.eye(2, dtype=np.float32))
    content = file.read_bytes()
    for place in range(len(content)):
        file.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        with contextlib.suppress(InputError):
            load_text_embeddings(file)


def test_thresholds_part_right_labels_from_wrong_ones():
    """Mugs lie at 0 degrees, doors at 90; a third of the doors look like mugs, from afar."""
    examples = unit(*[0] * 20, *[90] * 20, *[40] * 10)
    label_of = np.repeat([0, 1, 1], [20, 20, 10])
    labels = LabelSet.empty().added("mug", examples[:1]).added("door", examples[20:21])
    fitted = fit_thresholds(labels, examples, label_of, np.arange(50) % 7)
    # Doors at 40 degrees are known as doors by each other; what is in doubt is rejected.
    names = [name for name, _ in fitted.nearest(unit(0, 90), LabelOptions())]
    assert names == ["mug", "door"]
    few = fit_thresholds(labels, examples[:5], label_of[:5], np.arange(5))
    assert (few.min_similarity, few.margin) == (labels.min_similarity, labels.margin)
