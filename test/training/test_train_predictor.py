"""`aopsam train-predictor --model mobile_sam`, from data to a bundle that proposes prompts.

The weights are random: what is shown is that everything fits together and that the predictor
learns, not how good MobileSAM is.
"""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from aopsam_ros.cli import main
from aopsam_ros.data.datasets import open_dataset, split_by_group
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.images.files import write_rgb
from aopsam_ros.segmentation.segmenter import Segmenter
from support.random_weights import random_state
from support.scenes import draw_ellipses, write_label_maps, write_video
from support.written_bags import image_message, write_bag

torch = pytest.importorskip("torch")
pytest.importorskip("skimage")
pytest.importorskip("rosbags")

SIZE = 128
STEPS = 80
ANY_MASK = ["mask.predicted_iou_threshold=0", "mask.stability_threshold=0"]


def write_checkpoint(path, **changes):
    """Write random weights under MobileSAM's names, confident of every mask."""
    state = {name: torch.from_numpy(np.array(value)) for name, value in random_state().items()}
    state["mask_decoder.iou_prediction_head.layers.2.weight"] *= 0.02
    state["mask_decoder.iou_prediction_head.layers.2.bias"][:] = 0.9
    torch.save(state | changes, path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "random.pt")


def words(checkpoint, data, out, *more):
    sources = [str(source) for source in data]
    model = ["--model", "mobile_sam", "--checkpoint", str(checkpoint), "--threads", "1"]
    return ["train-predictor", *model, "--data", *sources, "--out", str(out), *map(str, more)]


def train(checkpoint, data, out, *more):
    assert main(words(checkpoint, data, out, *more)) == 0
    return out


LONG = ("--image-size", SIZE, "--held-out", 0.25)
SHORT = ("--image-size", 64, "--steps", 2, "--batch-size", 2)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_label_maps(tmp_path_factory.mktemp("data") / "drawn", range(24))


@pytest.fixture(scope="module")
def trained(checkpoint, scenes, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return train(checkpoint, [scenes], out, *LONG, "--steps", STEPS)


def rows_of(out):
    with (out / "curve.csv").open(newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def random_recall(points, draws=200):
    """Share of the scenes' masks that as many points, anywhere, hit on average."""
    rng = np.random.default_rng(0)
    hits = []
    for index in range(draws):
        labels = draw_ellipses(index % 24)[1]
        y, x = rng.integers(0, 96, points), rng.integers(0, 128, points)
        hits += [label in labels[y, x] for label in np.unique(labels) if label]
    return np.mean(hits)


def test_the_predictor_learns(trained):
    first, *_, last = rows_of(trained)
    assert (first["step"], last["step"]) == (0, STEPS)
    assert first["held_out_recall"] == first["held_out_prompts"] == 0
    assert last["held_out_loss"] < 0.5 * first["held_out_loss"]
    assert last["loss"] < first["held_out_loss"]
    assert 1 <= last["held_out_prompts"] <= 10  # there are up to four objects
    assert last["held_out_recall"] > 0.5
    assert last["held_out_recall"] > 1.5 * random_recall(round(last["held_out_prompts"]))


def test_the_bundle_is_ready(trained):
    with Segmenter.from_bundle(trained / "bundle", engine=EngineOptions(threads=1)) as segmenter:
        assert segmenter.source.name == "predictor" and segmenter.bundle.name == "mobile_sam"
        inside = []
        for index in range(100, 110):  # scenes that it never saw
            rgb, labels = draw_ellipses(index)
            prompts = segmenter.segment(rgb).prompts
            inside += [labels[round(p.y), round(p.x)] > 0 for p in prompts]
    assert len(inside) >= 10 and np.mean(inside) > 0.7


def cached(out):
    return sorted((out / "embeddings").glob("*/*.npy"))


def test_embeddings_are_the_encoders(trained, checkpoint, scenes):
    from aopsam_ros.geometry import preprocess
    from aopsam_ros.models.efficientnet_lite import IMAGENET_MEAN, IMAGENET_STD
    from aopsam_ros.models.loading import load_mobile_sam

    encoder = load_mobile_sam(checkpoint, SIZE).image_encoder
    training, held = split_by_group(open_dataset(scenes), 0.25)
    # Those that validate have no mirror image.
    assert held and len(cached(trained)) == 2 * len(training) + len(held)
    stored = np.stack([np.load(file) for file in cached(trained)])
    assert stored.dtype == np.float16 and stored.shape[1:] == (256, 8, 8)
    for flip in (1, -1):
        rgb = np.ascontiguousarray(draw_ellipses(0)[0][:, ::flip])
        with torch.no_grad():
            image = torch.from_numpy(preprocess(rgb, SIZE, IMAGENET_MEAN, IMAGENET_STD).tensor)
            expected = encoder(image)[0].numpy()
        assert np.abs(stored - expected).max((1, 2, 3)).min() < 0.02


def test_a_run_goes_on_without_encoding_again(trained, checkpoint, scenes, capfd):
    times = {file: file.stat().st_mtime_ns for file in cached(trained)}
    broken = cached(trained)[3]
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-100])
    more = ("--steps", STEPS + 5)
    train(checkpoint, [scenes], trained, *LONG, *more)
    said = capfd.readouterr().out
    assert f"resumed at step {STEPS}, " in said and "1 views to encode" in said
    assert broken.read_bytes() == whole
    assert {f for f, time in times.items() if f.stat().st_mtime_ns != time} == {broken}
    train(checkpoint, [scenes], trained, *LONG, *more)
    said = capfd.readouterr()
    assert "to encode" not in said.out and "exporting" not in said.err
    assert [row["step"] for row in rows_of(trained)][-1] == STEPS + 5


def test_another_checkpoint_is_not_mixed_in(trained, scenes, tmp_path, refused):
    bias = {"image_encoder.neck.1.bias": torch.full((256,), 0.5)}
    other = write_checkpoint(tmp_path / "other.pt", **bias)
    assert "predictor.pt: trained for another model" in refused(
        *words(other, [scenes], trained, *LONG)
    )
    predictor = ["--predictor", str(trained / "predictor.pt"), "--out", str(tmp_path / "b")]
    assert "trained for another model" in refused("export", "--checkpoint", str(other), *predictor)
    assert not (tmp_path / "b").exists()
    fresh = tmp_path / "run"
    train(other, [scenes], fresh, *LONG, "--steps", 1, "--no-flips")
    folders = {file.parent.name for out in (trained, fresh) for file in cached(out)}
    assert len(folders) == 2 and len(cached(fresh)) == 24


def write_sources(folder):
    """Write scenes as a folder of images, as a video and as a recording."""
    (folder / "images").mkdir(parents=True)
    for index in range(2):
        write_rgb(folder / "images" / f"{index}.png", draw_ellipses(index)[0])
    drawn = [draw_ellipses(index)[0] for index in range(4)]
    video = write_video(folder / "drive.avi", drawn)
    images = [image_message(rgb, "rgb8") for rgb in drawn]
    bag = write_bag(folder / "recording", {"/camera": images, "/rear": images})
    return [folder / "images", video, bag]


def test_self_labels_of_pictures_videos_and_recordings(checkpoint, tmp_path, capfd):
    sources = write_sources(tmp_path / "sources")
    more = ("--self-label", "--every", 2, "--topic", "/rear", "--set", *ANY_MASK)
    out = train(checkpoint, sources, tmp_path / "run", *SHORT, *more)
    folders = sorted((out / "self-labels").iterdir())
    names = [folder.name.rpartition("-")[0] for folder in folders]
    assert names == ["drive", "images", "recording"]
    for folder in folders:
        labels = [json.loads(file.read_text()) for file in folder.glob("*.json")]
        assert len(labels) == 2 and all(label["annotations"] for label in labels)
        assert labels[0]["prompt_source"] == "grid16"
    assert "6 images" not in capfd.readouterr().out  # one of them validates
    assert main(["models", "verify", str(out / "bundle")]) == 0
    times = {file: file.stat().st_mtime_ns for file in out.glob("self-labels/*/*.json")}
    train(checkpoint, sources, out, *SHORT, *more)
    assert "exporting" not in capfd.readouterr().err
    assert {file: file.stat().st_mtime_ns for file in times} == times
    for shard in ("1/2", "2/2"):
        train(checkpoint, sources, tmp_path / "parts", *SHORT, *more, "--shard", shard)
        assert len(files_of(tmp_path / "parts")) == 6 * int(shard[0])
    assert files_of(tmp_path / "parts") == files_of(out)
    assert not (tmp_path / "parts" / "predictor.pt").exists()


def test_a_ray_cluster_labels_before_the_training(checkpoint, tmp_path, monkeypatch, capfd):
    pytest.importorskip("ray")
    monkeypatch.setattr("aopsam_ros.commands.training.self_labelling.IMAGES_A_PART", 1)
    sources = write_sources(tmp_path / "sources")[:1]
    more = ("--self-label", "--set", *ANY_MASK, "--ray", "local")
    out = train(checkpoint, sources, tmp_path / "run", *SHORT, *more)
    said = capfd.readouterr().err
    assert "2/2" in said and said.count("exporting the frozen model") == 3  # two parts, and here
    assert len(files_of(out)) == 4 and (out / "bundle").is_dir()


def files_of(out):
    return {file.relative_to(out): file.read_bytes() for file in out.glob("self-labels/*/*.j*")}


def video(source):
    source.write_bytes(b"RIFF\x00\x00\x00\x00AVI nothing")


def bag(source):
    write_bag(source, {"/camera": [image_message(draw_ellipses(0)[0], "rgb8")]})


def nothing(source):
    """There is no source."""


@pytest.mark.parametrize(
    ("make", "more", "reason"),
    [
        (nothing, [], "no such data set"),
        (Path.mkdir, [], "JPEGImages/ and SegmentationObject/, one COCO"),
        (nothing, ["--self-label"], "no such folder, video or recording"),
        (Path.mkdir, ["--self-label"], "no image in this folder"),
        (video, ["--self-label"], "neither a video"),
        (bag, ["--self-label", "--topic", "/front"], "no images on topic /front"),
        (bag, ["--self-label", "--set", "mask.area=3"], "unknown option 'mask.area'"),
        (Path.mkdir, ["--self-label", "--every", "0"], "--every"),
        (Path.mkdir, ["--every", "2"], "--every goes with --self-label"),
        (Path.mkdir, ["--set", "mask.min_area=3"], "--set goes with --self-label"),
        (Path.mkdir, ["--ray", "local"], "--ray goes with --self-label"),
        (Path.mkdir, ["--image-size", "100"], "--image-size"),
        (Path.mkdir, ["--batch-size", "0"], "batch size"),
        (Path.mkdir, ["--minutes", "0"], "--minutes"),
        (Path.mkdir, ["--minutes", "inf"], "--minutes"),
        (Path.mkdir, ["--held-out", "1"], "--held-out"),
    ],
)
def test_wrong_input_is_one_clear_line(checkpoint, tmp_path, refused, make, more, reason):
    make(tmp_path / "source")
    small = [] if "--image-size" in more else ["--image-size", "64"]
    given = words(checkpoint, [tmp_path / "source"], tmp_path / "run", *small, *more)
    assert reason in refused(*given)


def test_model_or_segmenter_but_not_both(scenes, tmp_path, refused):
    common = ["--data", str(scenes), "--out", str(tmp_path)]
    for chosen in ([], ["--model", "mobile_sam", "--segmenter", "x.pt"], ["--model", "sam"]):
        with pytest.raises(SystemExit) as raised:
            main(["train-predictor", *chosen, *common])
        assert raised.value.code == 2
    for more in (["--image-size", "64"], ["--no-flips"]):
        assert "--no-flips go with --model" in refused(
            "train-predictor", "--segmenter", "x.pt", *more, *common
        )


def test_a_folder_of_something_else_is_left_alone(checkpoint, scenes, tmp_path, refused):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "thesis.tex").write_text("mine")
    assert "holds other files" in refused(
        *words(checkpoint, [scenes], tmp_path, "--image-size", 64)
    )
    assert not (tmp_path / "targets").exists()


def test_a_disk_too_small_is_told_beforehand(checkpoint, scenes, tmp_path, refused, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    error = refused(*words(checkpoint, [scenes], tmp_path / "run", "--image-size", 64))
    assert "the embeddings need" in error and "--no-flips" in error


def test_targets_have_the_cells_of_the_predictors_map():
    from aopsam_ros.models import prompt_predictor
    from aopsam_ros.training import predictor_targets

    assert predictor_targets.MAP_STRIDE == prompt_predictor.MAP_STRIDE
