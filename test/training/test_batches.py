"""The segmenter's batches: classes come along, broken and empty images end no run silently."""

import logging
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from aopsam_ros.data.datasets import open_dataset  # noqa: E402
from aopsam_ros.data.labelled_images import LabelledImage  # noqa: E402
from aopsam_ros.errors import DatasetError, InputError, OptionError  # noqa: E402
from aopsam_ros.training import segmenter_training  # noqa: E402
from aopsam_ros.training.batches import (  # noqa: E402
    BatchOptions,
    SegmenterBatches,
    WeightedDataset,
    class_number,
)
from aopsam_ros.training.loop.loader import readable  # noqa: E402
from aopsam_ros.training.loop.precision import keep_depthwise_in_fp32  # noqa: E402
from aopsam_ros.training.options import SegmenterTrainingOptions  # noqa: E402
from aopsam_ros.training.segmenter_training import SegmenterTrainer  # noqa: E402
from support.scenes import write_label_maps  # noqa: E402


class Drawn:
    """Coloured squares on a grey field; counts how often it is read."""

    name, path = "drawn", None

    def __init__(self, classes=None, broken=(), empty=False):
        self.classes, self.broken, self.empty, self.reads = classes or {}, broken, empty, 0

    def __len__(self):
        return 4

    def group(self, index):
        return str(index)

    def read(self, index):
        self.reads += 1
        if index in self.broken:
            raise InputError(f"image {index} is cut short")
        rgb, layer = np.full((64, 64, 3), 90, np.uint8), np.zeros((64, 64), np.uint16)
        if not self.empty:
            for label, (top, left) in enumerate(((4, 4), (36, 36)), start=1):
                layer[top : top + 20, left : left + 20] = label
                rgb[layer == label] = 40 * label + 100
        return LabelledImage(str(index), rgb, layer[None], classes=self.classes)


def batches_of(dataset, **words):
    options = BatchOptions(64, ((64, 64),), 2, validates=True)
    return iter(SegmenterBatches([WeightedDataset(dataset, range(4))], options, 0, **words))


def test_a_prompt_brings_its_class():
    batch = next(batches_of(Drawn({1: "cup"})))
    assert batch.classes.shape == batch.targets.shape[:2]
    shown = batch.images.float().mean(3)[:, None, ::4, ::4]
    brightness = (shown * (batch.targets > 0)).amax((2, 3))
    first = torch.zeros_like(brightness, dtype=torch.bool)
    for row in range(2):  # the squares differ in brightness whatever a view's colours
        first[row] = brightness[row] < brightness[row].mean()
    assert (batch.classes == class_number("cup")).eq(first).all()
    assert set(batch.classes.unique().tolist()) == {0, class_number("cup")}
    assert class_number("") == 0


def test_a_broken_image_is_left_out_and_said(caplog):
    with caplog.at_level(logging.WARNING):
        stream = batches_of(Drawn(broken={2}))
        for _ in range(10):
            assert next(stream).images.shape[0] == 2
    assert "image 2 is cut short" in caplog.text


def test_nothing_but_broken_images_is_an_error():
    with pytest.raises(InputError, match="cut short"):
        next(batches_of(Drawn(broken=range(4))))
    draws = iter([InputError("one")] * 3)

    def read():
        if error := next(draws, None):
            raise error
        return "read"

    assert readable(read) == "read"


def test_images_without_instances_are_an_error():
    with pytest.raises(DatasetError, match="none of 1000 views"):
        next(batches_of(Drawn(empty=True)))


@pytest.mark.parametrize(("room", "reads"), [(0, 40), (1 << 20, 4), (3 * 64 * 64 * 5, None)])
def test_images_are_kept_while_there_is_room(room, reads):
    dataset = Drawn()
    stream = batches_of(dataset, cached_bytes=room)
    for _ in range(20):
        next(stream)
    assert dataset.reads == reads if reads else 4 < dataset.reads < 40


def test_a_resumed_run_has_the_rates_it_is_given_now(tmp_path):
    data = open_dataset(write_label_maps(tmp_path / "drawn", range(3)))
    options = SegmenterTrainingOptions(image_size=64, canvas=64, batch_size=2)

    def trainer(**changes):
        sets = [WeightedDataset(data, range(3))]
        return SegmenterTrainer(replace(options, **changes), sets, tmp_path / "run", None)

    (tmp_path / "run").mkdir()
    trainer(learning_rate=1e-3).save()
    later = trainer(learning_rate=5e-4, backbone_rate=1e-4)
    assert later.resume()
    assert [group["peak"] for group in later.optimizer.param_groups] == [5e-4, 1e-4]


def test_a_backbone_without_a_rate_stays_as_it_is_until_it_gets_one(tmp_path):
    data = open_dataset(write_label_maps(tmp_path / "drawn", range(3)))
    shape = BatchOptions(64, ((64, 64),), 2)

    def trainer(backbone_rate):
        options = SegmenterTrainingOptions(
            image_size=64, canvas=64, batch_size=2, backbone_rate=backbone_rate
        )
        sets = [WeightedDataset(data, range(3))]
        return SegmenterTrainer(options, sets, tmp_path, None)

    def moves(trainer):
        encoder = trainer.model.encoder
        watched = [encoder.backbone.blocks[-1], encoder.lateral32]
        before = [[p.clone() for p in part.parameters()] for part in watched]
        trainer.train_step(next(iter(SegmenterBatches(trainer.training, shape, 0))))
        return [
            not all(map(torch.equal, part.parameters(), old))
            for part, old in zip(watched, before, strict=True)
        ]

    still = trainer(0.0)
    assert moves(still) == [False, True]
    still.save()
    later = trainer(1e-3)
    assert later.resume()
    assert moves(later) == [True, True]


def test_an_encoder_in_16_bits_has_the_losses_of_32_and_gradients_in_32(tmp_path):
    data = [WeightedDataset(open_dataset(write_label_maps(tmp_path / "drawn", range(3))), range(3))]
    losses = {}
    for precision in ("bf16", "fp32"):
        options = SegmenterTrainingOptions(
            image_size=64, canvas=64, batch_size=2, precision=precision
        )
        trainer = SegmenterTrainer(options, data, tmp_path, None)
        shape = BatchOptions(64, ((64, 64),), 2, validates=True)
        found = trainer.forward(next(iter(SegmenterBatches(data, shape, 0))))
        found.loss.backward()
        gradients = [p.grad for p in trainer.model.encoder.parameters() if p.grad is not None]
        assert {gradient.dtype for gradient in gradients} == {torch.float32}
        losses[precision] = {name: part.item() for name, part in found.parts.items()}
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)
    assert losses["bf16"] != losses["fp32"]


def test_only_depthwise_convolutions_stay_in_32_bits():
    layers = [torch.nn.Conv2d(8, 8, 3, groups=groups) for groups in (1, 2, 8)]
    module = torch.nn.Sequential(*layers)
    keep_depthwise_in_fp32(module)
    image = torch.randn(1, 8, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        computed = [layer(image) for layer in layers]
    assert [each.dtype for each in computed] == [torch.bfloat16, torch.bfloat16, torch.float32]
    assert torch.equal(computed[2], layers[2](image))


@pytest.mark.parametrize("gains", [True, False])
def test_bf16_is_taken_where_the_processor_gains_by_it(tmp_path, monkeypatch, gains):
    monkeypatch.setattr(segmenter_training, "gains_by_bf16", lambda device: gains)
    data = [WeightedDataset(open_dataset(write_label_maps(tmp_path / "drawn", range(3))), range(3))]
    options = SegmenterTrainingOptions(image_size=64, canvas=64, batch_size=2)
    assert SegmenterTrainer(options, data, tmp_path, None).in_bf16 is gains


def test_a_run_with_pretrained_weights_does_not_go_on_without(tmp_path):
    data = [WeightedDataset(open_dataset(write_label_maps(tmp_path / "drawn", range(3))), range(3))]
    options = SegmenterTrainingOptions(image_size=64, canvas=64, batch_size=2)
    trainer = SegmenterTrainer(options, data, tmp_path, None)
    trainer.pretrained = "lite0.pth"
    trainer.save()
    with pytest.raises(OptionError, match="--pretrained"):
        SegmenterTrainer(options, data, tmp_path, None).resume()


def test_held_out_images_without_things_end_no_run(tmp_path, caplog):
    """One group is held out of a small set, which may be the image with nothing on it."""
    data = [WeightedDataset(open_dataset(write_label_maps(tmp_path / "drawn", range(3))), range(3))]
    options = SegmenterTrainingOptions(image_size=64, canvas=64, batch_size=2)
    held = [WeightedDataset(Drawn(empty=True), range(4))]
    trainer = SegmenterTrainer(options, data, tmp_path, None, held)
    assert trainer.measure() == {}
    assert "the held-out images measure nothing: none of 1000 views" in caplog.text
