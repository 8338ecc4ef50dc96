"""Bundles: found by name and by path; every fault is refused, and the file named."""

import errno
import os
import shutil
from pathlib import Path
from unittest.mock import Mock

import onnx
import pytest
import yaml

from aopsam_ros.bundle import loading as bundle_module
from aopsam_ros.bundle.loading import DECODER, ENCODER, SPLIT, available, find_bundle, load_bundle
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.errors import BundleError, EngineError
from aopsam_ros.models.bundle_files import new_bundle
from support import tiny_bundle
from support.tiny_bundle import edit, write_tiny_bundle
from support.tiny_split import write_split_bundle


def test_mixed_graphs_are_read_and_checked_as_the_others_are(tmp_path):
    folder = write_tiny_bundle(tmp_path / "b")
    listed = yaml.safe_load((folder / "bundle.yaml").read_text())["graphs"]
    edit(folder, lambda fields: fields.update(mixed_graphs=listed))
    bundle = load_bundle(folder)
    assert bundle.mixed_graphs == bundle.graphs
    listed["mask_decoder"]["file"] = "../mask_decoder.onnx"
    edit(folder, lambda fields: fields.update(mixed_graphs=listed))
    with pytest.raises(BundleError, match=r"mixed_graphs\.mask_decoder\.file"):
        load_bundle(folder)


def test_similarity_channels_default_to_all(tmp_path):
    folder = write_tiny_bundle(tmp_path / "b", similarity_channels=None)
    assert load_bundle(folder).similarity_channels == 3


@pytest.mark.parametrize(
    ("changes", "is_another"),
    [
        ({"mean": [1, 2, 3]}, True),
        ({"std": [1, 2, 3]}, True),
        ({"resize": "stretch"}, True),
        ({"size_divisibility": 16}, True),
        ({"stability_offset": 2.0}, True),
        ({"score_weights": {"area": 0.4}}, True),
        ({"models": {"prompt_predictor": tiny_bundle.image_predictor()}}, True),
        ({"version": "2", "provenance": "elsewhere", "defaults": {}}, False),
    ],
)
def test_a_digest_differs_for_what_gives_other_results(tmp_path, changes, is_another):
    before = load_bundle(write_tiny_bundle(tmp_path / "before"))
    after = load_bundle(write_tiny_bundle(tmp_path / "after", **changes))
    assert (after.digest != before.digest) == is_another


def write_again(bundle, folder):
    with new_bundle(folder, bundle) as work:
        shutil.copy(bundle.folder / "bundle.yaml", work)
    return {file.name for file in folder.iterdir()}


@pytest.mark.parametrize("name", ["mounted", "mounted/new", "link", "link to new"])
def test_a_bundle_can_be_written_to_another_disk(tiny_folder, tmp_path, monkeypatch, name):
    disk, move = tmp_path / "mounted", Path.replace

    def move_on_one_disk(file, target):
        if file.resolve().is_relative_to(disk) != target.resolve().is_relative_to(disk):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return move(file, target)

    monkeypatch.setattr(Path, "replace", move_on_one_disk)
    disk.mkdir()
    (tmp_path / "link").symlink_to(disk)
    (tmp_path / "link to new").symlink_to(disk / "new")
    tiny = load_bundle(tiny_folder)
    for _ in range(2):  # the second replaces the first
        assert write_again(tiny, tmp_path / name) == {file.name for file in tiny_folder.iterdir()}
    assert load_bundle(tmp_path / name).digest == tiny.digest


def test_what_a_killed_run_left_is_not_the_bundles(tiny_folder, tmp_path):
    killed = new_bundle(tmp_path)
    left = killed.__enter__()
    assert write_again(load_bundle(tiny_folder), tmp_path) >= {left.name, "bundle.yaml"}
    os.utime(left, (0, 0))  # nobody can still be writing it
    assert left.name not in write_again(load_bundle(tmp_path), tmp_path)


def test_found_by_folder_by_file_and_by_name(tiny_folder, monkeypatch, tmp_path):
    assert find_bundle(tiny_folder) == tiny_folder
    assert find_bundle(tiny_folder / "bundle.yaml") == tiny_folder
    monkeypatch.setattr(bundle_module, "search_folders", lambda: [tmp_path, tiny_folder.parent])
    (tmp_path / ".unfinished-1").mkdir()
    (tmp_path / ".unfinished-1" / "bundle.yaml").touch()  # being written
    assert find_bundle("tiny") == tiny_folder
    assert available() == ["tiny"]


def test_a_name_goes_before_a_folder_of_the_working_directory(tiny_folder, monkeypatch, tmp_path):
    write_tiny_bundle(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bundle_module, "search_folders", lambda: [tiny_folder.parent])
    assert find_bundle("tiny") == tiny_folder
    assert find_bundle("./tiny").resolve() == (tmp_path / "tiny").resolve()


@pytest.mark.parametrize("name", ["", "nix", "no/such/folder", "../tiny", "a\0b", "x" * 5000])
def test_missing_bundle_lists_what_there_is(name, tiny_folder, monkeypatch):
    monkeypatch.setattr(bundle_module, "search_folders", lambda: [tiny_folder.parent])
    with pytest.raises(BundleError, match=r"not found; give one of these names \(tiny\)"):
        find_bundle(name)


def test_folder_without_bundle_yaml_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"holds no bundle\.yaml"):
        load_bundle(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "must be a mapping"),
        (b"- 1", "must be a mapping"),
        (b"name: [", "not readable as YAML"),
        (b"\x00", "not readable as YAML"),
        (b"\xff\xfe\xfa", "not readable as YAML"),
        (b"!!python/object/apply:os.system [true]", "not readable as YAML"),
        (b"[" * 5000, "not readable as YAML"),
        (b" " * (bundle_module.MAX_YAML_BYTES + 1), "more than the"),
    ],
)
def test_broken_yaml_is_refused(tmp_path, text, reason):
    (tmp_path / "bundle.yaml").write_bytes(text)
    with pytest.raises(BundleError, match=reason) as raised:
        load_bundle(tmp_path)
    assert str(tmp_path / "bundle.yaml") in str(raised.value)
    assert "\n" not in str(raised.value)


KINDS = ("mixed_graphs", "split_graphs", "int8_graphs")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((kind, listed) for kind in KINDS for listed in ([], "e.onnx", {"encoder": {}}, {})),
        ("name", None),
        ("name", ""),
        ("name", "two\nlines"),
        ("licence", []),
        ("image_size", 0),
        ("image_size", 512.0),
        ("image_size", True),
        ("image_size", 10**9),
        ("mean", [1, 2]),
        ("mean", [1, 2, "x"]),
        ("std", [0, 1, 1]),
        ("std", [float("nan"), 1, 1]),
        ("std", [10**400, 1, 1]),
        ("embedding_shape", [1, 3, 8]),
        ("embedding_shape", [2, 3, 8, 8]),
        ("embedding_shape", [1, 3, 8, 9]),
        ("embedding_shape", [1, -3, 8, 8]),
        ("similarity_channels", 4),
        ("resize", "crop"),
        *(("size_divisibility", divisor) for divisor in (0, -32, 3, 4096, 1.5, "32", True)),
        ("similarity_channels", 0),
        ("low_res_mask_size", 10**6),
        ("confidence_map_size", "big"),
        ("stability_offset", -1),
        ("graphs", []),
        ("graphs", {}),
        ("defaults", {"asf": 3}),
        ("defaults", {"other": {}}),
        ("defaults", {"asf": {"min_spacing": 0}}),
        ("defaults", {"mask": {"no_such": 0}}),
        ("defaults", {"grid": {"stability_threshold": 1.5}}),
    ],
)
def test_wrong_field_is_refused_and_named(tmp_path, field, value):
    folder = write_tiny_bundle(tmp_path / "b")
    edit(folder, lambda fields: fields.update({field: value}))
    with pytest.raises(BundleError, match=f": {field}") as raised:
        load_bundle(folder)
    assert str(folder / "bundle.yaml") in str(raised.value)
    assert len(str(raised.value)) < len(str(folder)) + 400


OUTSIDE = ["../encoder.onnx", "/etc/passwd", "a/b.onnx", "..", ".", "", "a\\b.onnx", ".x", "a\nb"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("file", name) for name in OUTSIDE),
        *(("sha256", digest) for digest in ("", "0" * 63, "G" * 64, None)),
    ],
)
def test_no_graph_outside_the_folder_and_none_without_a_sha256(tmp_path, key, value):
    folder = write_tiny_bundle(tmp_path / "b")
    shutil.copy(folder / "encoder.onnx", tmp_path / "encoder.onnx")
    edit(folder, lambda fields: fields["graphs"]["encoder"].update({key: value}))
    with pytest.raises(BundleError, match=rf"graphs\.encoder\.{key}"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("key", "graph"),
    [("graphs", ENCODER), ("graphs", DECODER), *(("split_graphs", part) for part in SPLIT)],
)
def test_missing_entry_is_refused(tmp_path, key, graph):
    folder = write_split_bundle(tmp_path / "b")
    edit(folder, lambda fields: fields[key].pop(graph))
    with pytest.raises(BundleError, match=rf"{key}\.{graph}"):
        load_bundle(folder)


@pytest.mark.parametrize("graph", ["encoder", "prompt_predictor", "mask_decoder"])
def test_missing_graph_is_refused(tmp_path, graph):
    folder = write_tiny_bundle(tmp_path / "b")
    (folder / f"{graph}.onnx").unlink()
    with pytest.raises(BundleError, match=rf"{graph}\.onnx: missing"):
        create_engine(load_bundle(folder))


def test_oversized_graph_is_refused_unread(tmp_path, monkeypatch):
    folder = write_tiny_bundle(tmp_path / "b")
    monkeypatch.setattr(bundle_module, "MAX_GRAPH_BYTES", 100)
    with pytest.raises(BundleError, match="more than the 100 allowed"):
        create_engine(load_bundle(folder))


def test_a_bundle_in_the_users_folder_is_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(BundleError, match=r"'mobile_sam' not found.*--checkpoint mobile_sam.*nano"):
        load_bundle("mobile_sam")
    folder = write_tiny_bundle(tmp_path / "aopsam_ros" / "bundles" / "mobile_sam")
    assert load_bundle("mobile_sam").folder == folder
    assert "mobile_sam" in available()


def test_a_user_without_a_home_finds_what_is_installed(monkeypatch):
    before = available()
    homeless = Mock(side_effect=RuntimeError("Could not determine home directory."))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", homeless)
    assert "nano" in available() and set(available()) <= set(before)
    assert load_bundle("nano").name == "nano"


@pytest.mark.parametrize(
    ("first", "doubled"), [("[1, 1]", "[*a{0}, *a{0}]"), ("{x: 1}", "{{<<: [*a{0}, *a{0}]}}")]
)
def test_aliases_that_stand_for_more_than_memory_holds_are_refused(tmp_path, first, doubled):
    file = write_tiny_bundle(tmp_path / "b") / "bundle.yaml"
    bomb = [first, *(doubled.format(n) for n in range(59))]
    lines = [f"a{n}: &a{n} {value}" for n, value in enumerate(bomb)]
    file.write_text("\n".join([file.read_text(), *lines, "mean: *a59\n"]))
    with pytest.raises(BundleError, match="aliases"):
        load_bundle(file.parent)


@pytest.mark.parametrize("value", ["9" * 5000, "2024-13-45", "0b12", "1e999999", "!!binary x"])
def test_values_that_yaml_cannot_make_are_refused(tmp_path, value):
    file = write_tiny_bundle(tmp_path / "b", mean=None) / "bundle.yaml"
    file.write_text(f"{file.read_text()}mean: {value}\n")
    with pytest.raises(BundleError, match=r"bundle\.yaml"):
        load_bundle(file.parent)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda file: file.symlink_to("/dev/zero")])
def test_folders_pipes_and_devices_are_refused(tmp_path, make):
    graph = load_bundle(write_tiny_bundle(tmp_path / "b")).graphs["encoder"]
    graph.path.unlink()
    make(graph.path)
    with pytest.raises(BundleError, match="not a file"):
        graph.read()


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "{folder}/weights.bin"])
def test_graphs_do_not_reach_for_other_files(tmp_path, monkeypatch, location):
    model = tiny_bundle.encoder()
    (weights,) = model.graph.initializer
    external = onnx.TensorProto(
        name=weights.name, data_type=weights.data_type, dims=weights.dims,
        data_location=onnx.TensorProto.EXTERNAL,
    )  # fmt: skip
    path = location.format(folder=tmp_path)
    external.external_data.add(key="location", value=path)
    model.graph.initializer[0].CopyFrom(external)
    folder = write_tiny_bundle(tmp_path / "b", models={"encoder": model})
    for place in (tmp_path, folder):  # wherever the path might begin
        (place / "weights.bin").write_bytes(weights.raw_data)
    monkeypatch.chdir(folder)
    with pytest.raises((BundleError, EngineError)):
        create_engine(load_bundle(folder), EngineOptions(engine="onnxruntime", threads=1))
