"""`aopsam distill`, from images that nobody labelled to a bundle with a small encoder.

The teacher is a small nano of random weights: what is shown is that an encoder learns another's
embeddings, not how good either is.
"""

import csv
import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.cli import main
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.errors import OptionError
from aopsam_ros.images.files import read_rgb, write_rgb
from aopsam_ros.segmentation.segmenter import Segmenter
from support.scenes import draw_ellipses
from support.tiny_bundle import ATTENTION, write_tiny_bundle
from support.torchrun import torchrun
from support.written_bags import image_message, write_bag

torch = pytest.importorskip("torch")
pytest.importorskip("skimage")
pytest.importorskip("rosbags")

SIZE = 64
STEPS = 30


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    from aopsam_ros.models.export import export_bundle, nano_parts
    from aopsam_ros.models.nano import NanoSegmenter

    folder = tmp_path_factory.mktemp("teacher") / "teacher"
    torch.manual_seed(7)
    model = NanoSegmenter().eval()
    facts = {"name": "teacher", "version": "1", "licence": "x", "defaults": {}, "provenance": "y"}
    export_bundle(nano_parts(model, model.predictor, SIZE), folder, facts)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "drawn"
    folder.mkdir()
    for index in range(12):
        write_rgb(folder / f"{index}.png", draw_ellipses(index)[0])
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def words(teacher, data, out, *more):
    common = ["--threads", "1", "--batch-size", "4", "--held-out", "0.25", *map(str, more)]
    return ["distill", "--teacher", str(teacher), "--data", str(data), "--out", str(out), *common]


def rows_of(out):
    with (out / "curve.csv").open(newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def distilled(teacher, images, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    assert main(words(teacher, images, out, "--steps", STEPS)) == 0
    return out


def test_the_student_learns_the_teachers_embeddings(distilled):
    first, *_, last = rows_of(distilled)
    assert (first["step"], last["step"]) == (0, STEPS)
    assert last["held_out_loss"] < 0.5 * first["held_out_loss"]
    assert last["held_out_cosine"] > max(0.7, first["held_out_cosine"] + 0.3)
    assert (distilled / "curve.png").stat().st_size > 1000


def test_two_processes_have_the_loss_curve_of_one(distilled, teacher, images, tmp_path):
    code, said = torchrun(2, words(teacher, images, tmp_path, "--steps", STEPS))
    assert code == 0, said
    assert said.count(f"student.pt: {STEPS} steps") == 1  # only the first process prints
    alone, together = rows_of(distilled), rows_of(tmp_path)
    assert [row["step"] for row in together] == [*range(11), STEPS]
    # The same batches. What sums in another order differ by grows step by step, as it does between
    # two runs of one process.
    for name, first, last in (
        ("loss", 1e-4, 1e-3),
        ("held_out_loss", 1e-4, 5e-3),
        ("held_out_cosine", 1e-4, 1e-3),
    ):
        one, two = ([row[name] for row in rows if name in row] for rows in (alone, together))
        assert two[:-1] == pytest.approx(one[:-1], rel=first)
        assert two[-1] == pytest.approx(one[-1], rel=last)
    names = [
        {file.name for file in out.glob("embeddings/*/*.npy")} for out in (distilled, tmp_path)
    ]
    assert names[0] == names[1]
    assert main(["models", "verify", str(tmp_path / "bundle")]) == 0


def test_a_batch_that_cannot_be_divided_is_refused(monkeypatch):
    from aopsam_ros.training.loop import loader

    monkeypatch.setattr(loader.processes, "count", lambda: 2)
    with pytest.raises(OptionError, match="a batch of 3 cannot be divided among 2 processes"):
        loader.EndlessBatches([1], 3, 0)


def test_loaders_in_turns_prepare_the_batches_of_one(monkeypatch):
    from aopsam_ros.training.loop import loader

    class Drawn(loader.EndlessBatches):
        def batch(self, whole, each):
            return [whole.random(), *(rng.random() for rng in each)]

    def batches(count, **where):
        info = SimpleNamespace(**where) if where else None
        monkeypatch.setattr(torch.utils.data, "get_worker_info", lambda: info)
        return list(itertools.islice(Drawn([1], 4, 1), count))

    alone = batches(4)
    assert len({number for batch in alone for number in batch}) == 20  # all differ
    assert alone[0::2] == batches(2, id=0, num_workers=2)
    assert alone[1::2] == batches(2, id=1, num_workers=2)


def test_embeddings_are_the_teachers_in_32_bits(distilled, teacher):
    stored = [np.load(file) for file in (distilled / "embeddings").glob("*/*.npy")]
    assert len(stored) == 12  # the broken one is left out
    frame = next((distilled / "frames").glob("*/3-*.jpg"))
    with Segmenter.from_bundle(teacher, "grid16", EngineOptions(precision="fp32")) as segmenter:
        frame_embedding = segmenter.encode(read_rgb(frame))
        wanted = segmenter.engine.embedding(frame_embedding.handle)[0]
    assert min(np.abs(one - wanted).max() for one in stored) < 0.01


def test_the_bundle_segments_with_the_teachers_decoder(distilled, teacher):
    bundle, of_teacher = load_bundle(distilled / "bundle"), load_bundle(teacher)
    assert (bundle.name, bundle.embedding_shape) == ("teacher-nano", of_teacher.embedding_shape)
    same = {n: g.sha256 == of_teacher.graphs[n].sha256 for n, g in bundle.graphs.items()}
    assert [name for name, is_same in same.items() if not is_same] == ["encoder"]
    assert bundle.provenance["encoder"]["steps"] == STEPS
    with Segmenter.from_bundle(bundle.folder, "grid16", EngineOptions(threads=1)) as segmenter:
        assert segmenter.segment(draw_ellipses(50)[0]).prompts_decoded


def test_a_teachers_attention_is_not_promised_of_the_student(tmp_path):
    from aopsam_ros.training.students import make_student, write_student

    shape = [1, 3, 8, 8]  # nano's stride; its graphs are not run
    teacher = write_tiny_bundle(tmp_path / "teacher", embedding_shape=shape, attention=ATTENTION)
    student = make_student("nano", load_bundle(teacher), None)
    write_student(student, "nano", load_bundle(teacher), tmp_path / "student", {})
    assert load_bundle(teacher).attention and load_bundle(tmp_path / "student").attention is None


def test_a_run_goes_on_without_encoding_again(distilled, teacher, images, capfd):
    times = {f: f.stat().st_mtime_ns for f in distilled.glob("embeddings/*/*.npy")}
    assert main(words(teacher, images, distilled, "--steps", STEPS + 2)) == 0
    assert f"resumed at step {STEPS}, " in capfd.readouterr().out
    assert {f: f.stat().st_mtime_ns for f in times} == times
    assert rows_of(distilled)[-1]["step"] == STEPS + 2


def test_mobile_sams_encoder_learns_from_a_recording(teacher, tmp_path):
    messages = [image_message(draw_ellipses(index)[0], "rgb8") for index in range(4)]
    bag = write_bag(tmp_path / "recording", {"/camera": messages})
    more = ("--student", "mobile_sam", "--every", 2, "--steps", 1, "--held-out", 0)
    assert main(words(teacher, bag, tmp_path / "run", *more)) == 0
    assert len(list(tmp_path.glob("run/embeddings/*/*.npy"))) == 2
    assert main(["models", "verify", str(tmp_path / "run" / "bundle")]) == 0


def test_another_teacher_or_student_is_not_mixed_in(distilled, images, teacher, refused):
    assert "trained for another model" in refused(*words("nano", images, distilled))
    given = words(teacher, images, distilled, "--student", "mobile_sam")
    assert "student.pt: not a checkpoint of this model" in refused(*given)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (["--data", "nowhere"], "no such folder, video or recording"),
        (["--teacher", "nobody"], "'nobody' not found"),
        (["--start", "missing.pt"], "missing.pt"),
        (["--steps", "-1"], "steps"),
    ],
)
def test_wrong_input_is_one_clear_line(teacher, images, tmp_path, refused, changes, reason):
    assert reason in refused(*words(teacher, images, tmp_path, *changes))


def test_a_teacher_of_another_stride_is_refused(tiny_folder, images, tmp_path, refused):
    given = words(tiny_folder, images, tmp_path)
    assert "nano cannot give its embeddings" in refused(*given)
