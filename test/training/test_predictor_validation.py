"""Figures on held-out photographs, against cases whose answers are known."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from support.scenes import draw_ellipses, write_label_maps

torch = pytest.importorskip("torch")

from aopsam_ros.data.datasets import open_dataset  # noqa: E402
from aopsam_ros.errors import InputError  # noqa: E402
from aopsam_ros.images.files import read_rgb  # noqa: E402
from aopsam_ros.training.batches import WeightedDataset, hold_out  # noqa: E402
from aopsam_ros.training.loop.loader import endless_batches  # noqa: E402
from aopsam_ros.training.losses import confidence_loss  # noqa: E402
from aopsam_ros.training.predictor_batches import CachedBatches  # noqa: E402
from aopsam_ros.training.predictor_data import prepare_targets  # noqa: E402
from aopsam_ros.training.predictor_validation import (  # noqa: E402
    Predicted,
    masks_hit,
    measure_prompts,
    sampled_points,
    validation_images,
)
from aopsam_ros.training.prepared_images import (  # noqa: E402
    EmbeddingCache,
    PreparedImage,
    PreparedSet,
    TargetCache,
    resize_to_square,
)

SIZE = 256
TRAINING = """
import torch
from aopsam_ros.training.loop.loader import endless_batches

class Large(torch.utils.data.IterableDataset):
    def __iter__(self):
        while True:
            yield [torch.ones(8, 3, 256, 256) for _ in range(12)]

if __name__ == "__main__":
    for _ in range(4):
        batches = endless_batches(Large())
        next(batches), next(batches)
        batches.close()
"""


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held out")
    data = open_dataset(write_label_maps(folder / "drawn", range(4)))
    targets = TargetCache(folder / "targets", SIZE)
    (part,) = prepare_targets([WeightedDataset(data, [0, 1, 2, 3])], targets)
    return SimpleNamespace(images=validation_images(part.images), targets=targets)


def measured(held_out, change):
    """The figures of a predictor that answers with the target itself, changed."""

    def forward(batch):
        confidence = change(batch.targets)[:, None]
        loss = confidence_loss(confidence, batch.targets, batch.known)
        return Predicted(confidence, loss, batch.extent_weights.mean())

    return measure_prompts(held_out.images, held_out.targets, None, forward)


def test_the_target_itself_hits_nearly_every_mask(held_out):
    figures = measured(held_out, lambda target: target)
    assert figures["held_out_loss"] == 0 and figures["held_out_extents"] > 0
    assert figures["held_out_recall"] > 0.9  # the smallest ones are smoothed away
    objects = np.mean([len(np.unique(draw_ellipses(i)[1])) - 1 for i in range(4)])
    assert figures["held_out_prompts"] == pytest.approx(objects, abs=1)


def test_nothing_or_peaks_elsewhere_hit_little(held_out):
    flipped = measured(held_out, lambda target: target.flip(1))
    assert flipped["held_out_recall"] < 0.7 and flipped["held_out_prompts"] > 1
    figures = measured(held_out, torch.zeros_like)
    assert figures["held_out_recall"] == figures["held_out_prompts"] == 0
    assert figures["held_out_loss"] > 0


def test_points_lie_at_the_peaks_of_the_map():
    confidence = np.zeros((64, 64), np.float32)
    confidence[10:15, 20:25] = 1.0
    confidence[60:64, 20:25] = 1.0  # below the image: padding
    (point,) = sampled_points(confidence, 192, 256)
    # The centre of cell 22, 12 of four pixels each, by SAM's rule that half a pixel is added later.
    np.testing.assert_allclose(point, [22.5 * 4 - 0.5, 12.5 * 4 - 0.5])


def test_masks_are_hit_by_any_point_in_any_layer():
    layers = np.zeros((2, 40, 80), np.uint16)
    layers[0, 0:20, 0:20], layers[0, 0:20, 40:60] = 1, 2
    layers[1] = 3
    layers[1, 36:, 76:] = 4  # too small to count
    points = np.array([[10.4, 15.6], [8.0, 8.0], [78.0, 38.0]])
    assert masks_hit(layers, points) == [True, False, True]
    assert masks_hit(layers, points[:0]) == [False, False, False]


def test_the_same_images_validate_every_time(held_out):
    images = held_out.images
    assert validation_images(images[2:] + images[:2]) == images
    many = [PreparedImage(images[0].path, "", f"{i:03}") for i in range(200)]
    assert len(validation_images(many[::-1])) < 100
    assert validation_images(many[::-1]) == validation_images(many)


@pytest.mark.parametrize("fraction", [0.0, 1e-4, 0.3])
def test_a_share_above_nothing_holds_something_out(tmp_path, fraction):
    data = open_dataset(write_label_maps(tmp_path / "drawn", range(6)))
    training, held = hold_out([(data, 1.0)], fraction)
    count = sum(len(part.indices) for part in held)
    assert count + sum(len(part.indices) for part in training) == 6
    assert (count == 0) == (fraction == 0)
    assert fraction > 0.1 or count <= 1


@pytest.fixture
def cached(held_out, tmp_path):
    """Batches whose embeddings tell which view they are of: the image's number, and its side."""
    cache = EmbeddingCache(tmp_path, "e" * 16, (2, 1, 1))
    for number, image in enumerate(held_out.images):
        for flipped in (False, True):
            cache.store(image, flipped, np.array([number, flipped], np.float32).reshape(2, 1, 1))

    def make(flips, weights=(1.0, 1.0)):
        sets = [PreparedSet(held_out.images[:1], weights[0])]
        sets += [PreparedSet(held_out.images[1:], weights[1])]
        return CachedBatches(sets, held_out.targets, cache, flips, 6, seed=0)

    return make


def test_image_target_and_embedding_are_of_one_view(held_out, cached):
    batches = iter(cached(flips=True))
    seen = set()
    for batch in (next(batches) for _ in range(8)):
        for row, (number, flipped) in enumerate(batch.embeddings[:, :, 0, 0].int().tolist()):
            seen.add((number, flipped))
            image = held_out.images[number]
            rgb = read_rgb(image.path)[:, :: -1 if flipped else 1]
            canvas, _ = resize_to_square(np.ascontiguousarray(rgb), SIZE)
            target = held_out.targets.target(image, bool(flipped))
            np.testing.assert_array_equal(batch.images[row].numpy(), canvas)
            np.testing.assert_array_equal(batch.targets[row].numpy(), target.map())
            np.testing.assert_array_equal(batch.known[row].numpy(), target.known)
            labelled = held_out.targets.layers(image)[:, :, :: -1 if flipped else 1].any(0)
            known = batch.extent_weights[row].numpy()[: 192 // 8, : 256 // 8] > 0
            assert np.mean(known == labelled[4::8, 4::8]) > 0.99
            assert batch.sizes[row].tolist() == [192, 256]
    assert seen == {(number, flipped) for number in range(4) for flipped in (0, 1)}


def test_sets_are_seen_as_often_as_their_weight_says(cached):
    batches = iter(cached(flips=False, weights=(9.0, 1.0)))
    views = np.concatenate([next(batches).embeddings[:, :, 0, 0].numpy() for _ in range(30)])
    assert not views[:, 1].any()  # no mirror image
    assert np.mean(views[:, 0] == 0) == pytest.approx(9 / (9 + 3), abs=0.1)


def test_a_loader_ends_in_silence_while_it_hands_a_batch_over(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TRAINING)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert not done.stderr  # it aborted most times, and torch called that an error


def test_what_fails_in_the_loader_is_told_in_its_own_words(tmp_path):
    targets = TargetCache(tmp_path, SIZE)
    gone = PreparedSet([PreparedImage(tmp_path / "gone.png", "a", "b")])
    cache = EmbeddingCache(tmp_path, "e" * 16, (1, 1, 1))
    with pytest.raises(InputError) as raised:
        next(endless_batches(CachedBatches([gone], targets, cache, False, 1, 0)))
    reason = "cannot be read: No such file or directory"
    assert str(raised.value) == f"{tmp_path / 'gone.png'}: {reason}"
