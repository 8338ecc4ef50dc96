"""`aopsam segment` of folders, videos, recordings and cameras; data sets from them."""

import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from aopsam_ros.commands.segmenting.inputs import num_parts
from aopsam_ros.commands.segmenting.stream import is_stream
from aopsam_ros.data.datasets import open_dataset
from aopsam_ros.data.recordings import open_frames
from aopsam_ros.images.files import write_rgb
from aopsam_ros.masks import decode_full
from aopsam_ros.streaming.stream_segmenter import StreamSegmenter
from support.drawn_masks import rectangle
from support.scenes import boxes_scene, coloured_scene, iou, write_video
from support.written_bags import image_message, write_bag

pytest.importorskip("rosbags")
FRAMES = 6


def places(number):
    """Two boxes, each going its way: they pass where the other one was."""
    return (10 + 6 * number, 20, 40, 20), (80 - 6 * number, 70, 30, 50)


def moving(number):
    return boxes_scene(places(number))


def write_frames(folder, count=3):
    folder.mkdir(exist_ok=True)
    for number in range(count):
        write_rgb(folder / f"{number}.png", moving(number))
    return folder


@pytest.fixture
def video(tmp_path):
    return write_video(tmp_path / "drive.avi", [*map(moving, range(FRAMES))], rate=20)


@pytest.fixture
def recording(tmp_path):
    images = [image_message(moving(number), "rgb8") for number in range(FRAMES)]
    others = [image_message(coloured_scene()[0], "rgb8")]
    return write_bag(tmp_path / "drive", {"/front": images, "/rear": others})


def lines_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def ids_of_boxes(line, number):
    """Return the ids of the masks that cover the two moving boxes."""
    masks = {m["id"]: decode_full(SimpleNamespace(**m), 128, 128) for m in line["masks"]}
    ids = []
    for x, y, w, h in places(number):
        wanted = rectangle(y, y + h, x, x + w, (128, 128))
        best = max(masks, key=lambda i: iou(masks[i], wanted))
        assert iou(masks[best], wanted) > 0.7
        ids.append(best)
    return ids


def play(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return capture.get(cv2.CAP_PROP_FPS), frames


def test_a_recording_gives_a_line_a_frame_with_ids_that_stay(segment, recording):
    result = segment(recording, "--topic", "/front")
    assert result.code == 0, result.err
    lines = lines_of(result.out / "drive.jsonl")
    assert [line["image"] for line in lines] == [f"frame_{n:06}" for n in range(FRAMES)]
    assert [line["stamp"] for line in lines] == [1_000_000 * (n + 1) for n in range(FRAMES)]
    first = ids_of_boxes(lines[0], 0)
    assert len(set(first)) == 2
    assert all(ids_of_boxes(line, number) == first for number, line in enumerate(lines))
    assert f"{FRAMES} frames" in result.stdout and "drive.jsonl" in result.stdout


def test_a_video_is_saved_annotated_at_its_rate(segment, video):
    result = segment(video, "--save-video", "--every", 2)
    assert result.code == 0, result.err
    rate, frames = play(result.out / "drive.mp4")
    assert (rate, len(frames)) == (10.0, 3)
    originals = play(video)[1][::2]
    changed = [np.abs(a.astype(int) - b).mean() for a, b in zip(frames, originals, strict=True)]
    assert min(changed) > 3  # translucent masks: a copy differs by less than 2
    stamps = [line["stamp"] for line in lines_of(result.out / "drive.jsonl")]
    assert stamps == [0, 100_000_000, 200_000_000]  # every second frame of 20 a second


def test_it_says_that_frames_in_a_row_have_no_crops(segment, video, tmp_path):
    image = tmp_path / "0.png"
    write_rgb(image, moving(0))
    words = ("--prompts", "grid3", "--set", "grid.crop_layers=1")
    assert "crop" not in segment(image, *words).err
    result = segment(video, *words)
    assert result.code == 0 and lines_of(result.out / "drive.jsonl")[0]["prompts_decoded"] == 9
    assert f"aopsam: {video}: grid.crop_layers has no effect on frames in a row" in result.err
    assert "crop" not in segment(video, "--prompts", "grid3").err


def test_a_recording_s_rate_is_that_of_its_stamps(tmp_path):
    path = write_bag(tmp_path / "drive", {"/front": 8 * [image_message(moving(0), "rgb8")]})
    assert open_frames(path, every=4).rate == pytest.approx(250, rel=1e-3)  # each millisecond one


def test_a_folder_is_its_images_or_frames_in_a_row(segment, tmp_path):
    folder = write_frames(tmp_path / "run.1")
    result = segment(folder, "--no-overlay")
    assert result.code == 0
    assert sorted(p.name for p in result.out.iterdir()) == ["0.json", "1.json", "2.json"]
    result = segment(folder, "--save-video")
    lines = lines_of(result.out / "run.jsonl")
    assert ids_of_boxes(lines[0], 0) == ids_of_boxes(lines[2], 2)
    assert len(play(result.out / "run.mp4")[1]) == 3


def test_what_was_drawn_beside_the_images_is_no_image(segment, aopsam, tiny_folder, tmp_path):
    folder = write_frames(tmp_path / "run")
    assert aopsam("segment", folder, "--edges", "--model", tiny_folder, "--out", folder).code == 0
    assert (folder / "1_overlay.png").is_file() and (folder / "1_edges.png").is_file()
    (folder / "new_overlay.png").write_bytes((folder / "1.png").read_bytes())  # of nothing here
    result = segment(folder, "--no-overlay")
    names = ["0.json", "1.json", "2.json", "new_overlay.json"]
    assert sorted(path.name for path in result.out.iterdir()) == names
    result = segment(folder, "--save-video")
    assert len(lines_of(result.out / "run.jsonl")) == 4


def test_a_frame_that_does_not_fit_the_video_is_written_nowhere(segment, tmp_path):
    folder = write_frames(tmp_path / "run")
    cv2.imwrite(str(folder / "1.png"), cv2.imread(str(folder / "1.png"))[:-8])
    result = segment(folder, "--save-video")
    assert result.code == 2 and "does not fit a video" in result.err
    assert len(lines_of(result.out / "run.jsonl")) == len(play(result.out / "run.mp4")[1]) == 2


def test_boxes_of_images_are_found_where_these_are_frames_in_a_row(segment, tmp_path):
    folder, boxes = write_frames(tmp_path / "run"), tmp_path / "boxes.json"
    corners = [[10 + 6 * number, 20, 50 + 6 * number, 40] for number in range(3)]
    boxes.write_text(json.dumps({f"run/{n}.png": [box] for n, box in enumerate(corners)}))
    result = segment(folder, "--save-video", "--prompts", "boxes", "--boxes", boxes)
    assert result.code == 0, result.err
    lines = lines_of(result.out / "run.jsonl")
    assert [len(line["masks"]) for line in lines] == [1, 1, 1] and "stamp" not in lines[0]


def test_a_camera_is_read_until_enough_and_its_video_is_as_long_as_what_it_shows(
    segment, video, monkeypatch
):
    """The camera is OpenCV's reader of a video; the frames' times are those of the clock."""
    opened, now = [], iter(range(10**18, 10**18 + 10**10, 200_000_000))
    reader = cv2.VideoCapture

    def open_camera(what):  # or the video that was saved
        opened.append(what)
        return reader(str(video) if what == 3 else what)

    monkeypatch.setattr("aopsam_ros.data.recordings.cv2.VideoCapture", open_camera)
    monkeypatch.setattr(time, "time_ns", lambda: next(now))  # five frames a second of 20
    result = segment("3", "--limit", 4, "--save-video")
    assert result.code == 0, result.err
    assert set(opened) == {3, str(result.out / "3.mp4")}
    lines = lines_of(result.out / "3.jsonl")
    assert np.diff([line["stamp"] for line in lines]).tolist() == 3 * [200_000_000]
    monkeypatch.undo()
    rate, frames = play(result.out / "3.mp4")
    assert (rate, len(frames)) == (20.0, 1 + 3 * 4)


def test_ctrl_c_ends_a_camera_and_the_next_input_is_done(segment, video, monkeypatch):
    """The interrupt comes while a frame is segmented; a video's ends the command."""
    reader, segmented = cv2.VideoCapture, StreamSegmenter.segment

    def interrupted(self, rgb, number, *rest, **options):
        if number == 2:
            raise KeyboardInterrupt
        return segmented(self, rgb, number, *rest, **options)

    monkeypatch.setattr(StreamSegmenter, "segment", interrupted)
    assert segment(video).code == 130
    monkeypatch.setattr("aopsam_ros.data.recordings.cv2.VideoCapture", lambda _: reader(str(video)))
    write_rgb(video.with_name("photo.png"), moving(0))
    result = segment("3", video.with_name("photo.png"))
    assert result.code == 0, result.err
    assert "3: 2 frames" in result.stdout and "photo.json" in result.stdout
    assert len(lines_of(result.out / "3.jsonl")) == 2


@pytest.mark.parametrize("suffix", [".mkv", ".m4v", ".wmv", ".flv", ".MTS", ".ts", ".3gp"])
def test_videos_are_known_by_their_suffix_on_every_machine(suffix):
    assert is_stream(Path(f"drive{suffix}"))
    assert not is_stream(Path("photo.jpg"))


def test_a_broken_frame_does_not_lose_the_others(segment, tmp_path):
    messages = [image_message(moving(number), "rgb8") for number in range(3)]
    messages[1].encoding = "stars"
    result = segment(write_bag(tmp_path / "drive", {"/front": messages}))
    assert result.code == 2
    found = [line["image"] for line in lines_of(result.out / "drive.jsonl")]
    assert found == ["frame_000000", "frame_000002"]
    assert "frame_000001: " in result.err and "stars" in result.err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("71",), "camera 71 cannot be opened"),
        (("drive",), "choose with --topic: /front, /rear"),
        (("drive.avi", "--show"), "there is no screen for a window"),
        ((".", "--show"), "there is no screen for a window"),
        (("scene.png", "--show"), "take frames in a row: a folder, not its images"),
        ((".", "--limit", "2"), "--limit takes frames in a row: a video, a recording or a"),
        (("scene.png", "--every", "2"), "--every takes frames in a row"),
        (("scene.png", "--topic", "/front"), "--topic takes frames in a row"),
        (("absent.png", "--limit", "2"), "absent.png: cannot be read"),
        (("drive.avi", "--edges"), "--edges is for images"),
        (("scene.png", "--edges", "--point", "3,3"), "does not go with --point"),
        (("drive.avi", "--every", "0"), "--every from 1, to 1000000000"),
        (("drive.avi", "--every", "1" + 400 * "0"), "--every from 1, to 1000000000"),
        (("drive.avi", "--limit", "-1"), "--limit must be from 0, "),
        (("drive.avi", "--limit", "1" + 20 * "0"), "--limit must be from 0, "),
        (("1" + 20 * "0",), "cannot be read: No such file"),
        (("nothing.png", "--save-video"), "nothing.png: cannot be read: No such file"),
        (("drive.mp4", "--save-video"), "no such folder, video or recording"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    segment, recording, video, monkeypatch, words, reason
):
    monkeypatch.chdir(recording.parent)
    write_rgb(recording.parent / "scene.png", moving(0))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    result = segment(*words)
    assert result.code == 2
    (said,) = [line for line in result.err.splitlines() if line.startswith("aopsam: error: ")]
    assert reason in said


@pytest.mark.skipif(not hasattr(cv2, "videoio_registry"), reason="an OpenCV without videos")
def test_an_input_is_not_overwritten_by_its_video(segment, tmp_path, video):
    (tmp_path / "out").mkdir()
    original = tmp_path / "out" / "drive.mp4"
    os.rename(video, original)
    before = original.read_bytes()
    result = segment(original, "--save-video")
    assert result.code == 2 and "would be overwritten" in result.err
    assert original.read_bytes() == before
    other = write_video(tmp_path / "drive.avi", [moving(0)])  # whose video has the input's name
    result = segment(other, original, "--save-video")
    assert result.code == 2 and f"{original} is what is segmented" in result.err
    assert original.read_bytes() == before and len(play(result.out / "drive_2.mp4")[1]) == FRAMES


def test_a_recording_and_images_become_one_data_set(segment, recording, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    write_rgb(tmp_path / "photo.png", moving(0))
    words = (recording, tmp_path / "photo.png", "--topic", "/front", "--format", "coco")
    result = segment(*words, "--limit", 3)
    assert result.code == 0, result.err
    found = coco.COCO(str(result.out / "annotations" / "instances_default.json"))
    names = [image["file_name"] for image in found.dataset["images"]]
    assert names == [*(f"drive_frame_{n:06}.jpg" for n in range(3)), "photo.jpg"]
    assert all((result.out / "images" / name).is_file() for name in names)
    tracks = [{a.get("track_id") for a in found.imgToAnns[number]} for number in (1, 2, 3, 4)]
    assert tracks[0] & tracks[1] & tracks[2] and tracks[3] == {None}


def test_shards_together_do_what_one_run_does(segment, tmp_path, video):
    folders = [write_frames(tmp_path / name, 2) for name in ("monday", "tuesday")]
    words = (*folders, video, "--no-overlay")

    def results(folder):
        found = {file.name: lines_of(file) for file in sorted(folder.iterdir())}
        return {n: [line | {"timings_ms": {}} for line in lines] for n, lines in found.items()}

    whole = results(segment(*words).out)
    assert list(whole) == ["0.json", "0_2.json", "1.json", "1_2.json", "drive.jsonl"]
    shutil.rmtree(tmp_path / "out")
    done = [set(results(segment(*words, "--shard", f"{part}/3").out)) for part in (1, 2, 3)]
    assert [len(names) for names in done] == [2, 4, 5]  # an equal part each
    assert results(tmp_path / "out") == whole


def test_a_folder_of_recordings_and_videos_is_each_of_them(segment, tmp_path, recording, video):
    fleet = tmp_path / "fleet"
    fleet.mkdir()
    recording.rename(fleet / "monday")
    video.rename(fleet / "tuesday.avi")
    (fleet / "notes.txt").touch()
    result = segment(fleet, "--topic", "/front", "--limit", 1)
    assert result.code == 0, result.err
    assert sorted(file.name for file in result.out.iterdir()) == ["monday.jsonl", "tuesday.jsonl"]
    write_rgb(fleet / "photo.png", moving(0))  # beside images, they are the folder's other files
    assert "photo.json" in segment(fleet, "--no-overlay").stdout
    assert not (result.out / "photo.jsonl").exists()


def test_frames_in_a_row_are_a_part_each(tmp_path, video):
    folders = [write_frames(tmp_path / name, 1) for name in ("one", "two")]
    assert num_parts([*folders, video]) == 3
    images = [folders[0] / "0.png"]
    assert num_parts(images) == num_parts(200 * images) == 1 and num_parts(201 * images) == 2


def test_a_shards_data_set_has_a_folder_of_its_own(segment, tmp_path):
    images = write_frames(tmp_path / "frames").iterdir()
    out = segment(*sorted(images), "--format", "labelmap", "--shard", "2/2").out
    assert [file.name for file in out.glob("*/images/*")] == ["1.jpg"]
    assert [folder.name for folder in out.iterdir()] == ["shard-2-of-2"]


@pytest.mark.needs("pycocotools")
def test_of_more_shards_than_inputs_each_data_set_can_be_opened(segment, tmp_path):
    folder = write_frames(tmp_path / "run", 2)
    for part in (1, 2, 3):
        assert segment(folder, "--format", "coco", "--shard", f"{part}/3").code == 0
    made = sorted((tmp_path / "out").iterdir())
    assert [open_dataset(shard).name for shard in made] == ["shard-1-of-3", "shard-2-of-3"]


LONG = pytest.param(f"1/{'9' * 5000}", id="long")


@pytest.mark.parametrize("word", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", LONG])
def test_a_shard_is_one_of_its_number(segment, tmp_path, word):
    write_rgb(tmp_path / "photo.png", moving(0))
    result = segment(tmp_path / "photo.png", f"--shard={word}")
    assert result.code == 2 and "--shard takes I/N" in result.err
