"""The course of a training: as a table, as an image, and where it goes wrong."""

import csv
import sys
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from aopsam_ros.errors import DatasetError  # noqa: E402
from aopsam_ros.training.loop import curve  # noqa: E402
from aopsam_ros.training.loop.trainer import TimedTrainer  # noqa: E402
from aopsam_ros.training.options import TrainingOptions  # noqa: E402

ROWS = [
    {"step": 0, "seconds": 0.0, "held_out_loss": 0.4, "held_out_recall": 0.0},
    {"step": 50, "seconds": 5.0, "loss": 0.3},
    {"step": 80, "seconds": 8.0, "loss": 0.2, "held_out_loss": 0.2, "held_out_prompts": 3.5},
    {"step": 90, "seconds": 9.0, "held_out_extents": 0.4},
]


def table(folder):
    with (folder / "curve.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_without_matplotlib_there_is_a_table(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for row in ROWS:
        curve.append(tmp_path, row)
    curve.write(tmp_path)
    rows = table(tmp_path)
    assert [row["step"] for row in rows] == ["0", "50", "80", "90"]
    assert [row["loss"] for row in rows] == ["", "0.3", "0.2", ""]
    assert [row["held_out_prompts"] for row in rows] == ["", "", "3.5", ""]
    assert [row["held_out_extents"] for row in rows] == ["", "", "", "0.4"]
    assert not (tmp_path / "curve.png").exists()


def test_what_was_done_again_counts_once(tmp_path):
    again = [{"step": 50, "seconds": 6.0, "loss": 0.25}, {"step": 100, "seconds": 9.0, "loss": 0.1}]
    for row in ROWS + again:
        curve.append(tmp_path, row)
    with (tmp_path / "training.jsonl").open("a") as file:
        file.write('{"step": 150, "los')  # as a full disk leaves it
    curve.write(tmp_path)
    rows = [(row["step"], row["seconds"]) for row in table(tmp_path)]
    assert rows == [("0", "0.0"), ("50", "6.0"), ("100", "9.0")]


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    class Diverging(TimedTrainer):
        def forward(self, batch):
            return SimpleNamespace(loss=self.model(batch).sum() / 0)

    model = torch.nn.Linear(2, 1)
    before = model.weight.clone()
    trainer = Diverging(TrainingOptions(), model, "", tmp_path)
    with pytest.raises(DatasetError, match="at step 0; lower the rates"):
        trainer.train_step(torch.ones(1, 2))
    assert torch.equal(model.weight, before)
