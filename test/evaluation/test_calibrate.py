"""Scores are fitted so that they rank masks better than predicted IoU does."""

import shutil

import numpy as np
import pytest
import yaml

from aopsam_ros.bundle.loading import find_bundle, load_bundle
from aopsam_ros.cli import main
from aopsam_ros.commands import calibrate
from aopsam_ros.masks.selection import ScoreWeights
from aopsam_ros.tuning import score_calibration
from aopsam_ros.tuning.score_calibration import fit
from support.scenes import write_scenes


def test_a_fit_finds_the_weights_that_made_the_labels():
    rng = np.random.default_rng(0)
    values = rng.random((4000, 5))
    values[:, 4] = np.log(values[:, 4])  # of a share
    true = ScoreWeights(-3.0, 2.0, 0.0, 1.0, 3.0, 0.4)
    found = fit(values, true.score(*values.T), np.ones(4000))
    assert np.abs(found.score(*values.T) - true.score(*values.T)).max() < 0.03
    assert found.extents > found.predicted_iou > found.confidence > found.stability
    assert found.area == pytest.approx(0.4, abs=0.05)


def test_photographs_weigh_the_same_whatever_their_masks():
    values = np.vstack((np.zeros((100, 5)), np.zeros((1, 5))))
    iou = np.append(np.zeros(100), 1.0)
    weight = np.append(np.full(100, 0.01), 1.0)
    assert fit(values, iou, weight).score(*np.zeros((5, 1))) == pytest.approx(0.5, abs=1e-3)


def test_a_bundle_gets_the_weights_that_were_fitted(
    tmp_path, capsys, images_in_memory, monkeypatch
):
    # SciPy 1.8, of ROS 2 Humble, calls its two numbers otherwise than later ones.
    spearmanr = score_calibration.spearmanr
    monkeypatch.setattr(score_calibration, "spearmanr", lambda a, b: tuple(spearmanr(a, b)))
    copy, scenes = tmp_path / "nano", write_scenes(tmp_path / "drawn", range(16))
    shutil.copytree(find_bundle("nano"), copy)
    command = ["calibrate", str(copy), "--data", str(scenes), "--threads", "1"]
    assert main([*command, "--engine", "onnxruntime"]) == 0
    written = yaml.safe_load((copy / "bundle.yaml").read_text())["score_weights"]
    assert load_bundle(copy).score_weights == ScoreWeights(**written)
    out = capsys.readouterr().out
    assert "rank correlation" in out and f" of {len(images_in_memory)} images" in out
    assert max(images_in_memory) <= 2


def test_a_folder_goes_before_the_built_in_bundle_of_its_name(tmp_path, monkeypatch):
    shutil.copytree(find_bundle("nano"), tmp_path / "nano")
    scenes, changed = write_scenes(tmp_path / "drawn", range(16)), []
    monkeypatch.setattr(calibrate, "change_description", lambda folder, _: changed.append(folder))
    monkeypatch.chdir(tmp_path)
    command = ["calibrate", "nano", "--data", str(scenes), "--threads", "1"]
    assert main([*command, "--engine", "onnxruntime"]) == 0
    assert changed == [tmp_path / "nano"]


def test_a_model_without_extents_is_refused(tiny_folder, data, refused):
    assert "gives no extents" in refused("calibrate", tiny_folder, "--data", data[0])
