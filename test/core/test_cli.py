"""The `aopsam` command: files written, exit codes, one clear line for each fault."""

import json
import os
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import cv2
import numpy as np
import pytest

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.cli import main
from aopsam_ros.commands import COMMANDS
from aopsam_ros.images.files import read_rgb, write_rgb
from aopsam_ros.masks import decode_full
from support.scenes import coloured_scene, iou, write_scenes
from support.tiny_split import write_split_bundle


@pytest.fixture
def scene(tmp_path):
    rgb, objects = coloured_scene(120, 160)
    write_rgb(tmp_path / "scene.png", rgb)
    return SimpleNamespace(path=tmp_path / "scene.png", objects=objects, rgb=rgb)


def written(folder):
    return sorted(path.name for path in folder.iterdir())


def test_json_and_overlay_are_those_of_the_design(segment, scene):
    result = segment(scene.path)
    assert result.code == 0
    assert written(result.out) == ["scene.json", "scene_overlay.png"]
    content = json.loads((result.out / "scene.json").read_text())
    keys = "image width height model prompt_source prompts masks prompts_decoded timings_ms"
    assert " ".join(content) == keys
    assert content["image"] == str(scene.path)
    assert (content["width"], content["height"]) == (160, 120)
    assert (content["model"], content["prompt_source"]) == ("tiny", "predictor")
    assert content["prompts_decoded"] == 4
    assert set(content["prompts"][0]) == {"x", "y", "confidence", "state"}
    assert {prompt["state"] for prompt in content["prompts"]} == {"KEPT"}
    assert "total" in content["timings_ms"]
    keys = "id bbox area predicted_iou stability_score score parent level prompt counts"
    assert [" ".join(mask) for mask in content["masks"]] == 4 * [keys]
    masks = [decode_full(SimpleNamespace(**mask), 120, 160) for mask in content["masks"]]
    assert [int(mask.sum()) for mask in masks] == [mask["area"] for mask in content["masks"]]
    for wanted, _ in scene.objects:
        assert max(iou(mask, wanted) for mask in masks) > 0.8
    overlay = read_rgb(result.out / "scene_overlay.png")
    assert overlay.shape == scene.rgb.shape and (overlay != scene.rgb).any()


def test_points_and_a_box_give_the_mask_that_they_mean(segment, scene):
    wanted, (x, y) = scene.objects[0]
    for words in (("--point", f"{x + 6},{y + 6}"), ("--box", f"{x},{y},{x + 12},{y + 12}")):
        assert segment(scene.path, *words).code == 0
        content = json.loads((scene.path.parent / "out" / "scene.json").read_text())
        (mask,) = content["masks"]
        assert iou(decode_full(SimpleNamespace(**mask), 120, 160), wanted) > 0.85
        assert (content["prompt_source"], content["prompts_decoded"]) == ("user", 1)


def test_edges_are_written_on_demand(segment, scene):
    assert segment(scene.path, "--edges", "--no-overlay").code == 0
    edges = read_rgb(scene.path.parent / "out" / "scene_edges.png")
    assert edges.shape == scene.rgb.shape
    wanted, _ = scene.objects[0]
    inside = cv2.erode(wanted.astype(np.uint8), np.ones((9, 9))) > 0
    assert edges[wanted].any() and not edges[inside].any()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
@pytest.mark.parametrize("form", ["json", "coco", "yolo", "labelmap", "sa1b"])
def test_an_image_whose_name_is_no_text_does_not_lose_the_others(segment, scene, tmp_path, form):
    if form in ("coco", "sa1b"):
        pytest.importorskip("pycocotools")
    folder = tmp_path / "in"
    folder.mkdir()
    for name in (b"caf\xe9.png", b"last.png"):
        write_rgb(folder / os.fsdecode(name), scene.rgb)
    result = segment(folder, "--format", form)
    assert result.code == 0, result.err
    assert "caf\\udce9.png: 4 masks" in result.stdout and "last.png: 4 masks" in result.stdout


def test_one_bad_image_does_not_lose_the_others(segment, scene, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    last = tmp_path / "last.png"
    write_rgb(last, scene.rgb)
    (tmp_path / "nothing").mkdir()
    bad = [tmp_path / name for name in ("bad.jpg", "none.jpg", "empty.png", "nothing")]
    result = segment(scene.path, *bad, last)
    assert result.code == 2
    names = ["last.json", "last_overlay.png", "scene.json", "scene_overlay.png"]
    assert written(result.out) == names
    reasons = ["not an image", "No such file", "not an image", "no image in"]
    for path, reason in zip(bad, reasons, strict=True):
        assert any(f"{path}: " in line and reason in line for line in result.err.splitlines())
    assert "4 of 6 inputs failed" in result.err


def test_same_stem_twice_writes_both_and_dots_in_the_stem_are_kept(segment, scene, tmp_path):
    (tmp_path / "other").mkdir()
    images = {
        "other/scene.jpg": ("scene_2", 40),
        "scene_2.png": ("scene_2_2", 60),
        "frame.1.png": ("frame.1", 20),
        "frame.2.png": ("frame.2", 30),
    }
    for name, (_, width) in images.items():
        write_rgb(tmp_path / name, np.zeros((30, width, 3), np.uint8))
    result = segment(scene.path, *(tmp_path / name for name in images), "--no-overlay")
    assert result.code == 0
    found = {path.name: json.loads(path.read_text())["width"] for path in result.out.iterdir()}
    wanted = {"scene": 160, **dict(images.values())}
    assert found == {f"{stem}.json": width for stem, width in wanted.items()}
    assert "scene_2.json" in result.stdout


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("scene_overlay.png", ()),
        ("scene_edges.png", ("--edges", "--no-overlay")),
        ("scene_edges.png", ("--edges", "--format", "labelmap")),
    ],
)
def test_an_input_is_never_overwritten(aopsam, tiny_folder, scene, tmp_path, name, options):
    image = tmp_path / name
    write_rgb(image, scene.rgb)
    before = image.read_bytes()
    words = [scene.path, image, "--model", tiny_folder, "--out", tmp_path, *options]
    result = aopsam("segment", *words)
    assert result.code == 2 and "would be overwritten" in result.err
    assert image.read_bytes() == before


@pytest.mark.parametrize(
    "image", [np.full((20, 30), 40_000, np.uint16), np.full((20, 30, 4), 128, np.uint8)]
)
def test_grey_16_bit_and_transparent_images(segment, tmp_path, image):
    assert cv2.imwrite(str(tmp_path / "p.png"), image)
    assert segment(tmp_path / "p.png").code == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("x.png", "--model", "no-such"), "model bundle 'no-such' not found"),
        (("SCENE", "--out", f"{__file__}/x"), "Not a directory"),
        ((), "no image given"),
        (("x.png", "--set", "asf.nothing=1"), "unknown option 'asf.nothing'"),
        (("x.png", "--set", "asf.min_spacing=no"), "must be a number"),
        (("x.png", "--set", "asf.min_spacing=0"), "between 1 and 256"),
        (("x.png", "--prompts", "stars"), "unknown prompt source 'stars'"),
        (("x.png", "--engine", "tensorrt"), "no NVIDIA driver"),
        (("x.png", "--threads", "-1"), "--threads must be from 0 to 256"),
        (("x.png", "--threads", "257"), "--threads must be from 0 to 256"),
        (("x.png", "--point", "3"), "--point takes 2 or 3 numbers separated by commas, not '3'"),
        (("x.png", "--box", "1,2,3,x"), "--box takes 4 numbers separated by commas"),
        (("x.png", "--point", "3,4,0"), "needs a point on the object, or a box"),
        *(
            (("x.png", "--point", "3,4", "--point", f"5,6,{label}"), "the third number is 1 on")
            for label in ("0.5", "256", "257", "-1", "nan")
        ),
    ],
)
def test_wrong_arguments_are_one_clear_line(refused, tiny_folder, scene, tmp_path, words, reason):
    given = ["--model", tiny_folder, "--out", tmp_path / "out"]
    given += [scene.path if word == "SCENE" else word for word in words]
    assert reason in refused("segment", *given, at_once=True)


@pytest.mark.parametrize(
    ("module", "words", "reason"),
    [
        ("matplotlib", "evaluate --data DATA --out OUT", "a report needs matplotlib"),
        ("optuna", "tune --data DATA --out OUT", "tuning needs optuna"),
        ("onnxruntime.quantization", "quantize nano --data DATA --out OUT", "pip install onnx"),
        ("torch", "train-segmenter --data DATA --out OUT", "needs PyTorch"),
        (
            "pyperf",
            "bench --out OUT",
            "import of pyperf halted; None in sys.modules): `make setup EXTRAS=bench`",
        ),
    ],
)
def test_what_is_not_installed_is_named(tmp_path, monkeypatch, refused, module, words, reason):
    monkeypatch.setitem(sys.modules, module, None)
    paths = {"DATA": write_scenes(tmp_path / "data", [1]), "OUT": tmp_path / "out"}
    assert reason in refused(*(paths.get(word, word) for word in words.split()))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command, capfd):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: aopsam {command}" in capfd.readouterr().out


def test_models_list_and_verify(tiny_folder, tmp_path, aopsam, refused):
    verified, listed = (aopsam("models", word, tiny_folder) for word in ("verify", "list"))
    assert verified.code == listed.code == 0
    assert verified.out.startswith("tiny 1 ") and verified.out.rstrip().endswith("verified")
    assert str(tiny_folder) in listed.out
    broken = write_split_bundle(tmp_path / "b")
    for graph in load_bundle(broken).all_graphs:  # the decoder in one piece, which no CPU loads
        content = graph.path.read_bytes()
        graph.path.write_bytes(content + b"\0")
        assert f"{graph.path}: sha256" in refused("models", "verify", str(broken))
        graph.path.write_bytes(content)


def test_a_broken_bundle_does_not_hide_the_others(tmp_path, aopsam, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    broken = tmp_path / "aopsam_ros" / "bundles" / "a_broken_one" / "bundle.yaml"
    broken.parent.mkdir(parents=True)
    broken.write_text("name: half\n")
    for word in ("list", "verify"):
        result = aopsam("models", word)
        assert result.code == 2 and f"aopsam: error: {broken}: image_size must" in result.err
        (nano,) = [line for line in result.out.splitlines() if line.startswith("nano ")]
        assert nano.endswith("verified") is (word == "verify")


def test_it_says_which_settings_have_no_effect(segment, scene):
    settings = ("grid.crop_layers=1", "asf.elimination_cosine=0.5", "mask.min_area=4")
    result = segment(scene.path, "--set", *settings, "asf.filtering=none")
    assert result.code == 0
    assert result.err.splitlines() == [
        "aopsam: grid.crop_layers has no effect with the prompt source 'predictor'",
        "aopsam: asf.elimination_cosine has no effect with asf.filtering 'none'",
    ]


def test_interrupt_is_no_traceback(segment, scene, monkeypatch):
    interrupted = Mock(side_effect=KeyboardInterrupt)
    monkeypatch.setattr("aopsam_ros.segmentation.segmenter.Segmenter.segment", interrupted)
    result = segment(scene.path)
    assert result.code == 130
    assert result.err.count("\n") == 1


def test_files_are_written_whole_or_not_at_all(segment, scene, monkeypatch, tmp_path):
    full_disk = Mock(side_effect=OSError(28, "No space left on device"))
    monkeypatch.setattr("pathlib.Path.replace", full_disk)
    result = segment(scene.path)
    assert result.code == 2
    assert written(result.out) == []
    assert "No space left on device" in result.err


@pytest.mark.parametrize("labels", ['{"version": "5.4.1", "shapes": []}', "[]", "notes"])
def test_a_json_file_that_is_no_result_is_not_overwritten(aopsam, tiny_folder, scene, labels):
    """LabelMe writes one beside its image."""
    words = ["segment", scene.path, "--model", tiny_folder, "--out", scene.path.parent]
    file = scene.path.with_suffix(".json")
    file.write_text(labels)
    result = aopsam(*words)
    assert result.code == 2 and "scene.json is no earlier result and would be" in result.err
    assert file.read_text() == labels
    file.unlink()
    assert [aopsam(*words).code for _ in range(2)] == [0, 0]  # its own are replaced


@pytest.mark.needs("pycocotools")
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("sa1b", ()),
        ("sa1b", ("--format", "sa1b")),
        ("coco", ("--format", "coco")),
        ("labelmap", ("--format", "labelmap")),
    ],
)
def test_a_data_set_that_is_segmented_keeps_its_labels(segment, scene, kind, words):
    out = segment(scene.path, "--format", kind).out
    before = {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
    result = segment(out if kind == "sa1b" else out / "images", *words, "--no-overlay")
    assert result.code == 2 and "would be overwritten" in result.err
    assert {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()} == before
