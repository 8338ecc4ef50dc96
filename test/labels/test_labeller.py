"""Labels by the shipped model's features: taught once, found again, and not elsewhere."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

import cv2
import numpy as np
import pytest

from aopsam_ros.cli import main
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.errors import InputError
from aopsam_ros.geometry import resized_geometry
from aopsam_ros.images.files import read_rgb
from aopsam_ros.labels import label_files
from aopsam_ros.labels.label_files import load_label_set, save_label_set
from aopsam_ros.labels.label_set import LabelOptions, LabelSet
from aopsam_ros.labels.labeller import Labeller
from aopsam_ros.labels.semantic_encoder import SemanticEncoder, crop_images, pool_masks
from aopsam_ros.masks.iou import crop_of
from aopsam_ros.masks.rle import decode_full
from aopsam_ros.prompting.features import FeatureMap
from aopsam_ros.segmentation.segmenter import Segmenter
from support import tiny_bundle
from support.scenes import boxes_scene, draw_ellipses, iou, write_json, write_label_maps

CPU = EngineOptions(engine="onnxruntime", threads=1)


@pytest.fixture(scope="module")
def nano():
    with Segmenter.from_bundle("nano", engine=CPU) as segmenter:
        yield segmenter


@pytest.fixture(scope="module")
def coffee(root):
    return read_rgb(root / "photographs" / "coffee.jpg")


def segmented(segmenter, rgb):
    frame = segmenter.encode(rgb)
    return frame, segmenter.segment_frame(frame)


def at(segmentation, x, y):
    """Return the smallest mask at a place given as shares of width and height."""
    size = segmentation.height, segmentation.width
    row, column = round(y * size[0]), round(x * size[1])
    on = [mask for mask in segmentation.masks if decode_full(mask, *size)[row, column]]
    return min(on, key=lambda mask: mask.area)


def test_pooling_is_the_mean_over_a_masks_pixels():
    rng = np.random.default_rng(0)
    geometry = resized_geometry(90, 120, 128)
    features = FeatureMap(rng.normal(size=(1, 5, 4, 4)).astype(np.float32), geometry, 5)
    mask = np.zeros((90, 120), bool)
    mask[13:71, 37:90] = True
    mask[20:40, 50:60] = False
    cells = features.unit.astype(np.float64).reshape(features.rows, features.columns, 5)
    # Each pixel has the feature of its cell, of 32 pixels of the square: 30 of the image.
    of_pixels = cells[np.arange(90)[:, None] // 30, np.arange(120)[None] // 30]
    mean = of_pixels[mask].mean(axis=0)
    (pooled,) = pool_masks([crop_of(mask)], features)
    np.testing.assert_allclose(pooled, mean / np.linalg.norm(mean), atol=1e-6)


def test_crops_are_squares_around_masks_inside_the_image():
    rgb = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    masks = np.zeros((3, 40, 60), bool)
    masks[0, 10:14, 20:28] = True  # 8 x 4: the square has 2 more above and below
    masks[1, 36:40, 52:60] = True  # at the edge: the square is moved inside
    masks[2, 5:9] = True  # wider than the image is high: what there is
    crops = crop_images(rgb, [crop_of(mask) for mask in masks], 8)
    np.testing.assert_array_equal(crops[0], rgb[8:16, 20:28].transpose(2, 0, 1))
    np.testing.assert_array_equal(crops[1], rgb[32:40, 52:60].transpose(2, 0, 1))
    np.testing.assert_allclose(crops[2].mean(), rgb.mean(), atol=2)


def test_one_example_is_found_again_in_another_view_and_not_elsewhere(nano, coffee):
    labeller = Labeller(nano, CPU, None)
    frame, found = segmented(nano, coffee)
    cup = max(found.masks, key=lambda mask: mask.score)
    assert labeller.label(coffee, frame, found, LabelOptions()) is found  # nothing is known yet
    assert labeller.teach("cup", coffee, cup) == 1
    darker = np.ascontiguousarray((coffee[:, ::-1] * 0.7).astype(np.uint8))
    frame, found = segmented(nano, darker)
    labelled = labeller.label(darker, frame, found, LabelOptions())
    flipped = decode_full(cup, *coffee.shape[:2])[:, ::-1]
    cups = [mask for mask in labelled.masks if mask.label == "cup"]
    assert max(iou(decode_full(mask, *flipped.shape), flipped) for mask in cups) > 0.5
    assert len(cups) < len(labelled.masks)
    for mask in labelled.masks:
        assert (mask.label_score >= labeller.labels.min_similarity) == (mask.label == "cup")
    strict = labeller.label(darker, frame, found, LabelOptions(min_similarity=1.0))
    assert not any(mask.label for mask in strict.masks)


def test_an_example_is_more_similar_to_the_thing_far_away_in_another_light(nano, coffee):
    encoder = SemanticEncoder(nano, CPU)
    cup = max(segmented(nano, coffee)[1].masks, key=lambda mask: mask.score)
    whole = decode_full(cup, *coffee.shape[:2])
    far = cv2.resize((0.8 * coffee).astype(np.uint8), (240, 160), interpolation=cv2.INTER_AREA)
    own = cv2.resize(whole.astype(np.uint8), (240, 160), interpolation=cv2.INTER_NEAREST) > 0
    seen = encoder.features(far, nano.encode(far), [own])[0]
    alone = encoder.features(coffee, nano.encode(coffee), [cup])[0]
    (example,) = encoder.example(coffee, cup)
    assert np.linalg.norm(example) == pytest.approx(1.0, abs=1e-5)
    assert seen @ example > seen @ alone
    np.testing.assert_array_equal(encoder.example(coffee, whole)[0], example)


def test_an_example_is_most_similar_to_its_own_image_encoded_in_the_same_way(nano, coffee):
    encoder = SemanticEncoder(nano, CPU)
    masks = segmented(nano, coffee)[1].masks
    least = nano.options.updated({"encoder.padding": "least"})
    seen = encoder.features(coffee, nano.encode(coffee, least), masks)
    square, same = (
        np.array([encoder.example(coffee, mask, options)[0] for mask in masks])
        for options in (None, least)
    )
    assert (seen * same).sum() > (seen * square).sum()


def test_an_example_of_one_pixel_has_a_feature(nano, coffee):
    pixel = np.zeros(coffee.shape[:2], np.bool_)
    pixel[100, 101] = True
    assert np.linalg.norm(SemanticEncoder(nano, CPU).example(coffee, pixel)) > 0.9


def test_a_model_without_a_semantic_map_takes_nanos(tiny):
    rgb = boxes_scene()
    labeller = Labeller(tiny, CPU, None)
    frame, found = segmented(tiny, rgb)
    assert len(found.masks) == 2
    for name, mask in zip(("large", "small"), found.masks, strict=True):
        labeller.teach(name, rgb, mask)
    assert labeller.labels.features.startswith("nano ")
    labelled = labeller.label(rgb, frame, found, LabelOptions())
    assert [mask.label for mask in labelled.masks] == ["large", "small"]
    labeller.close()


def test_others_may_use_the_model_while_nano_is_loaded(tiny, monkeypatch):
    steps, load = [], Segmenter.from_bundle

    @contextlib.contextmanager
    def pause():
        steps.append("others")
        yield
        steps.append("its own")

    def from_bundle(*arguments):
        steps.append("load")
        return load(*arguments)

    monkeypatch.setattr(Segmenter, "from_bundle", from_bundle)
    Labeller(tiny, CPU, pause=pause).close()
    assert steps == ["others", "load", "its own"]


def test_beside_tensorrt_nano_is_run_by_an_engine_that_builds_nothing(tiny, monkeypatch):
    asked, load = [], Segmenter.from_bundle

    def from_bundle(name, source, engine):
        asked.append(engine)
        return load(name, source, engine)

    monkeypatch.setattr(tiny.engine, "name", "tensorrt")
    monkeypatch.setattr(Segmenter, "from_bundle", from_bundle)
    Labeller(tiny, EngineOptions(threads=1)).close()
    assert asked == [CPU]


@pytest.fixture(params=["crops", "features"])
def with_labeller(request, tmp_path):
    """A segmenter whose bundle says in which colour a thing is."""
    models = {
        "labeller": tiny_bundle.labeller(request.param),
        "encoder": tiny_bundle.with_semantic_map(tiny_bundle.encoder()),
    }
    sizes = {"crops": tiny_bundle.CROPS, "features": tiny_bundle.FEATURES}[request.param]
    folder = tiny_bundle.write_tiny_bundle(tmp_path / "b", models, labeller=sizes)
    with Segmenter.from_bundle(folder, engine=CPU) as segmenter:
        yield segmenter


@pytest.fixture
def colours(tmp_path):
    """Text embeddings of the names of colours."""
    file = tmp_path / "colours.npz"
    np.savez(file, names=["red", "green", "blue"], embeddings=3 * np.eye(3) - 1)
    return file


def test_names_are_enough_where_a_bundle_has_a_labeller(with_labeller, colours):
    rgb = boxes_scene()  # a green and a blue box
    frame, found = segmented(with_labeller, rgb)

    def labels(*names, **options):
        labeller = Labeller(with_labeller, CPU, colours, names)
        labelled = labeller.label(rgb, frame, found, LabelOptions(**options))
        return [mask.label for mask in labelled.masks]

    assert labels() == ["blue", "green"]
    assert labels("blue") == ["blue", ""]
    assert labels(min_similarity=1.0) == ["", ""]
    with pytest.raises(InputError, match="no label mauve; there are: "):
        Labeller(with_labeller, CPU, colours, ["mauve", "red"])
    with pytest.raises(InputError, match="need a label set, or text embeddings"):
        Labeller(with_labeller, CPU, None, ["red"])
    with pytest.raises(InputError, match="take no examples"):
        Labeller(with_labeller, CPU, colours).teach("red", rgb, found.masks[0])


def test_examples_are_compared_in_the_labellers_space_too(with_labeller, tmp_path):
    rgb, folder = boxes_scene(), tmp_path / "set"
    labeller = Labeller(with_labeller, CPU, folder)
    frame, found = segmented(with_labeller, rgb)
    for name, mask in zip(("grass", "sky"), found.masks, strict=True):
        labeller.teach(name, rgb, mask)
    digest = with_labeller.bundle.graphs["labeller"].sha256[:12]
    assert load_label_set(folder).features == f"tiny 1 {digest}"
    some = Labeller(with_labeller, CPU, folder, ["sky"])
    labelled = some.label(rgb, frame, found, LabelOptions(min_similarity=0.99))
    assert [mask.label for mask in labelled.masks] == ["", "sky"]


def test_text_embeddings_need_a_labeller_of_their_size(tiny, colours):
    with pytest.raises(InputError, match="not 320; text embeddings need a model with"):
        Labeller(tiny, CPU, colours)


def test_a_new_folder_is_filled_and_a_foreign_one_refused(tiny, tmp_path):
    rgb, folder = boxes_scene(), tmp_path / "mugs"
    with pytest.raises(InputError, match=r"no folder .*nowhere for a new label set"):
        Labeller(tiny, CPU, tmp_path / "nowhere" / "mugs")
    folder.mkdir()  # an empty one is new, too
    labeller = Labeller(tiny, CPU, folder)
    _, found = segmented(tiny, rgb)
    labeller.teach("mug", rgb, found.masks[0])
    labeller.close()
    assert load_label_set(folder).names == ("mug",)
    again = Labeller(tiny, CPU, folder)
    assert again.labels.names == ("mug",)
    again.close()
    with pytest.raises(InputError, match="not a label set"):
        Labeller(tiny, CPU, tmp_path)
    other = LabelSet.empty("another 1.0 abc").added("mug", np.ones((1, 3), np.float32))
    save_label_set(other, tmp_path / "other")
    with pytest.raises(InputError, match=r"made with the features of another 1\.0 abc"):
        Labeller(tiny, CPU, tmp_path / "other")
    edited = replace(other, features=again.labels.features)
    save_label_set(edited, tmp_path / "edited")
    with pytest.raises(InputError, match="prototypes of 3 numbers"):
        Labeller(tiny, CPU, tmp_path / "edited")


@pytest.mark.parametrize("suffix", ["", ".npz"])
def test_a_place_that_may_not_be_looked_into_is_refused_in_one_line(tiny, tmp_path, suffix):
    """As another user's folder; the system refuses too long a name to root, too."""
    place = tmp_path / ("mugs" * 100 + suffix)
    with pytest.raises(InputError, match=r"cannot be read: File name too long$"):
        Labeller(tiny, CPU, place)
    labeller = Labeller(tiny, CPU, tmp_path / "mugs")
    labeller._folder, rgb = place, boxes_scene()
    with pytest.raises(InputError, match=r"cannot be read: File name too long$"):
        labeller.teach("mug", rgb, segmented(tiny, rgb)[1].masks[0])
    labeller.close()


def test_several_nodes_fill_one_folder(tiny, tmp_path):
    rgb, folder = boxes_scene(), tmp_path / "mugs"
    _, found = segmented(tiny, rgb)
    front, rear = (Labeller(tiny, CPU, folder) for _ in range(2))
    for labeller, name in ((front, "mug"), (rear, "door"), (front, "cup")):
        labeller.teach(name, rgb, found.masks[0])
    assert front.labels.names == load_label_set(folder).names == ("mug", "door", "cup")
    save_label_set(LabelSet.empty("another").added("key", np.ones((1, 3), np.float32)), folder)
    with pytest.raises(InputError, match="made with the features of another"):
        rear.teach("door", rgb, found.masks[0])
    assert load_label_set(folder).names == ("key",)
    front.close()
    rear.close()


def test_nodes_that_are_taught_at_once_lose_nothing(tiny, tmp_path, monkeypatch):
    rgb, folder = boxes_scene(), tmp_path / "mugs"
    _, found = segmented(tiny, rgb)
    labellers = [Labeller(tiny, CPU, folder) for _ in range(2)]
    example = labellers[0]._encoder.example(rgb, found.masks[0])
    monkeypatch.setattr(SemanticEncoder, "example", lambda *_: example)
    with ThreadPoolExecutor(len(labellers)) as threads:
        for number in range(10):
            taught = [
                threads.submit(labeller.teach, f"{number} of {place}", rgb, found.masks[0])
                for place, labeller in enumerate(labellers)
            ]
            assert [each.result() for each in taught] == [1] * len(labellers)
    assert len(load_label_set(folder).names) == 10 * len(labellers)
    for labeller in labellers:
        labeller.close()


def test_a_set_is_read_whole_while_another_node_is_taught(tiny, tmp_path, monkeypatch):
    rgb, folder = boxes_scene(), tmp_path / "mugs"
    _, found = segmented(tiny, rgb)
    front = Labeller(tiny, CPU, folder)
    front.teach("mug", rgb, found.masks[0])
    read, taught = label_files._read_archive, []

    def read_late(*arguments):
        """Let the other node be taught once labels.yaml has been read, unless it has to wait."""
        if threading.current_thread() is threading.main_thread():
            taught.append(threads.submit(front.teach, "door", rgb, found.masks[1]))
            wait(taught, 0.5)
        return read(*arguments)

    with ThreadPoolExecutor(1) as threads:
        monkeypatch.setattr(label_files, "_read_archive", read_late)
        rear = Labeller(tiny, CPU, folder)
        monkeypatch.undo()
        assert taught[0].result() == 1
    assert rear.labels.names == ("mug",) and load_label_set(folder).names == ("mug", "door")
    front.close()
    rear.close()


def test_the_command_makes_a_set_that_knows_what_it_was_made_of(nano, tmp_path, capsys):
    data = write_label_maps(tmp_path / "drawn", range(4))
    names = {"1": "red", "2": "green", "3": "blue", "4": "yellow"}
    write_json(data / "classes.json", {f"scene{seed}": names for seed in range(4)})
    words = ["labels", "--data", str(data), "--out", str(tmp_path / "set"), "--threads", "1"]
    assert main([*words, "--only", "mauve", "grey"]) == 2
    assert "is of 'mauve' or 'grey'" in capsys.readouterr().err
    assert main([*words, "--only", "red", "blue", "mauve"]) == 0
    said = capsys.readouterr()
    assert "examples of 2 labels" in said.out and "is of 'mauve'" in said.err
    labels = load_label_set(tmp_path / "set")
    assert labels.names == ("blue", "red")
    rgb, drawn = draw_ellipses(2)
    masks = [drawn == label for label in (1, 3)]
    encoder = SemanticEncoder(nano, CPU)
    assert labels.features == encoder.identity
    features = encoder.features(rgb, nano.encode(rgb), masks)
    free = LabelOptions(min_similarity=0.0, margin=0.0)
    assert [name for name, _ in labels.nearest(features, free)] == ["red", "blue"]
    assert main(words) == 2  # a set that is there is not overwritten
