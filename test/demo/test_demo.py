"""`aopsam demo` end to end, as a user runs it: the real node, a camera, a report.

The contents of what it leaves behind are checked: figures that fit together, overlays that show
the masks, masks that cover the objects a person outlined.
"""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

from aopsam_ros.demo.photographs import mug_views
from aopsam_ros.images.files import read_rgb, write_rgb
from support.golden_masks import hand_masks
from support.live import FIRST_DOMAIN
from support.scenes import iou

pytestmark = pytest.mark.needs("rclpy")

PHOTOGRAPHS = Path(__file__).resolve().parent.parent.parent / "photographs"
MARK = "AOPSAM_TEST_MARK"
# As a user runs it, but in a domain that no other test's robot takes: it claims none.
PROGRAM = f"""
import sys
from aopsam_ros.cli import main
from aopsam_ros.demo import processes
processes.LAST_DOMAIN = {FIRST_DOMAIN - 1}
sys.exit(main())
"""
COMMAND = [sys.executable, "-c", PROGRAM, "demo"]


def folder_with(folder, names):
    folder.mkdir()
    for name in names:
        shutil.copy(PHOTOGRAPHS / name, folder)
    return folder


def demo(out, *arguments, code=0):
    """Run it until it ends with this exit code; what it said on stderr."""
    command = [*COMMAND, "--out", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == code, done.stderr[-2000:]
    return done.stderr


def summary_of(out):
    return json.loads((out / "summary.json").read_text(encoding="utf-8"))


def marked_processes(mark):
    """Return the command lines of all running processes whose environment holds the mark."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if mark.encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except (OSError, ValueError):
            continue
    return [line for line in found if line]


@pytest.fixture(scope="module")
def two_photographs(tmp_path_factory):
    """What a run over two photographs of different sizes wrote."""
    base = tmp_path_factory.mktemp("demo")
    photographs = folder_with(base / "photographs", ["cat.jpg", "coffee.jpg"])
    demo(base / "out", "--photos", str(photographs), "--seconds", "4", "--fps", "5")
    assert "Traceback" not in (base / "out" / "node.log").read_text(encoding="utf-8")
    return base / "out"


def test_the_figures_fit_together_and_each_photograph_has_masks_and_prompts(two_photographs):
    summary = summary_of(two_photographs)
    assert summary["published"] == 20 == summary["frames"] + summary["dropped"]
    assert 2 <= summary["frames"] <= 20
    assert summary["masks"] >= summary["frames"]
    assert summary["fps"] > 0
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p95"]
    assert summary["model"] == "nano"
    assert summary["engine"] in {"onnxruntime", "openvino", "tensorrt"}
    frames = [entry["frames"] for entry in summary["photographs"]]
    assert sum(frames) == summary["frames"] and min(frames) >= 1
    entries = {entry["photograph"]: entry for entry in summary["photographs"]}
    assert set(entries) == {"cat.jpg", "coffee.jpg"}
    for name, entry in entries.items():
        height, width = read_rgb(PHOTOGRAPHS / name).shape[:2]
        assert (entry["width"], entry["height"]) == (width, height)
        assert 1 <= entry["masks"] <= 200
        assert entry["prompts"]["kept"] >= 1


@pytest.mark.parametrize(
    ("name", "title"), [("cat.jpg", "cat"), ("coffee.jpg", "cup"), ("coffee.jpg", "spoon")]
)
def test_masks_cover_the_objects(two_photographs, name, title):
    """One of the masks fits the outline that a person drew, and the overlay shows it."""
    wanted = hand_masks(name)[title]
    found = masks_of(two_photographs / f"{Path(name).stem}.json")
    best = max(found, key=lambda mask: iou(mask, wanted))
    # More than one mask of the whole image would reach.
    assert iou(best, wanted) > max(0.6, wanted.mean() + 0.05)
    photograph = read_rgb(PHOTOGRAPHS / name).astype(int)
    overlay = read_rgb(two_photographs / f"{Path(name).stem}_overlay.png").astype(int)
    assert overlay.shape == photograph.shape
    differs_visibly = np.abs(overlay - photograph).sum(axis=2) > 12
    assert differs_visibly[best].mean() > 0.8


def masks_of(path):
    """Decode a result's masks by hand: run lengths, row by row inside the box."""
    result = json.loads(path.read_text(encoding="utf-8"))
    masks = []
    for item in result["masks"]:
        x, y, width, height = item["bbox"]
        counts = item["counts"]
        assert sum(counts) == width * height and sum(counts[1::2]) == item["area"]
        canvas = np.zeros((result["height"], result["width"]), bool)
        runs = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        canvas[y : y + height, x : x + width] = runs.reshape(height, width)
        masks.append(canvas)
    return masks


def test_the_page_is_whole_and_needs_nothing_else(two_photographs):
    page = (two_photographs / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") >= 3 * 2
    assert not re.search(r'(?:src|href)="(?!data:)', page), "it refers to another file"
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)
    summary = summary_of(two_photographs)
    for entry in summary["photographs"]:
        assert entry["photograph"] in page
        assert f"{entry['masks']} mask" in page
    assert f"{summary['frames']}</b>" in page


def test_a_broken_photograph_is_skipped_with_a_line(tmp_path):
    photographs = folder_with(tmp_path / "photographs", ["cat.jpg"])
    whole = (PHOTOGRAPHS / "coffee.jpg").read_bytes()
    (photographs / "broken.jpg").write_bytes(whole[:20])
    (photographs / "empty.png").write_bytes(b"")
    (photographs / "notes.txt").write_text("no photograph")
    said = demo(tmp_path / "out", "--photos", str(photographs), "--repeat", "3")
    for name in ("broken.jpg", "empty.png"):
        assert len(re.findall(rf"^skipped: .*{re.escape(name)}", said, re.MULTILINE)) == 1
    assert "notes.txt" not in said
    shown = summary_of(tmp_path / "out")["photographs"]
    assert [entry["photograph"] for entry in shown] == ["cat.jpg"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--photos", "{tmp}"], "holds no photograph"),
        (["--photos", "{tmp}/missing"], "is not a folder"),
        (["--fps", "0"], "--fps has to be positive"),
        (["--seconds", "1e308"], "--seconds times --fps has to be positive, not inf"),
        (["--domain-id", "999"], "--domain-id has to be 0 to 232"),
        (["--record", "{tmp}/out.bag"], "suffix .mcap"),
        (["--record", "{tmp}/a_file/out.mcap"], "a_file: cannot be written"),
    ],
)
def test_bad_arguments_are_refused_at_once_in_one_clear_line(tmp_path, refused, arguments, reason):
    (tmp_path / "a_file").touch()
    words = [word.format(tmp=tmp_path) for word in arguments]
    assert reason in refused("demo", "--out", tmp_path / "out", *words, at_once=True)
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_there_is_said_with_the_nodes_words_and_costs_no_recording(tmp_path):
    photographs = folder_with(tmp_path / "photographs", ["cat.jpg"])
    words = ["--photos", str(photographs), "--model", "no_such_model"]
    earlier = tmp_path / "drive.mcap"
    earlier.write_text("an older recording")
    if importlib.util.find_spec("rosbags"):
        words += ["--record", str(earlier)]
    said = demo(tmp_path / "out", *words, code=2)
    line = said.strip().splitlines()[-1]
    assert "refused to start" in line and "node.log" in line
    assert "'no_such_model' not found" in line, line
    assert "Traceback" not in said
    assert not (tmp_path / "out" / "summary.json").exists()
    assert earlier.read_text() == "an older recording"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind_when_interrupted(tmp_path, number):
    photographs = folder_with(tmp_path / "photographs", ["cat.jpg"])
    mark = uuid.uuid4().hex
    command = [*COMMAND, "--out", str(tmp_path / "out"), "--photos", str(photographs)]
    with (tmp_path / "log").open("w") as log:
        env = {**os.environ, MARK: mark}
        process = subprocess.Popen([*command, "--repeat", "2000"], env=env, stdout=log, stderr=log)
        # Interrupted in the middle: the node is running, and images flow.
        _wait_until(lambda: "segmenting" in (tmp_path / "log").read_text(), 300)
        assert len(marked_processes(mark)) >= 2
        process.send_signal(number)
        code = process.wait(120)
    _wait_until(lambda: not marked_processes(mark), 120)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    assert "Traceback" not in (tmp_path / "log").read_text()


def _wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The recording of a short run; another file was there before."""
    pytest.importorskip("rosbags")
    base = tmp_path_factory.mktemp("record")
    photographs = folder_with(base / "photographs", ["cat.jpg"])
    file = base / "new" / "drive.mcap"
    file.parent.mkdir()
    file.write_text("an older recording")
    arguments = ["--photos", str(photographs), "--repeat", "6", "--fps", "5"]
    demo(base / "out", *arguments, "--record", str(file))
    assert [path.name for path in file.parent.iterdir()] == ["drive.mcap"]
    return file


def test_the_recording_holds_everything_as_it_was_on_the_wire(recorded):
    from rosbags.highlevel import AnyReader

    with AnyReader([recorded]) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
        messages = {topic: [] for topic in counts}
        times = []
        for connection, at, raw in reader.messages():
            times.append(at)
            messages[connection.topic].append(reader.deserialize(raw, connection.msgtype))
    assert times == sorted(times)
    assert counts["/image"] == counts["/camera_info"] == 6
    topics = ("masks", "prompts", "overlay", "outlines", "detections", "labels")
    assert counts.keys() >= {"/diagnostics", *(f"/aopsam/{topic}" for topic in topics)}
    assert counts.pop("/aopsam/target", 0) == 0  # nothing is followed
    assert min(counts.values()) >= 1
    assert "/aopsam/points" not in counts  # nobody asks for depth

    (pixels,) = {message.data.tobytes() for message in messages["/image"]}
    first = messages["/image"][0]
    rgb = np.frombuffer(pixels, np.uint8).reshape(first.height, first.width, 3)
    np.testing.assert_array_equal(rgb, read_rgb(PHOTOGRAPHS / "cat.jpg"))
    stamps = {message.header.stamp.nanosec for message in messages["/image"]}
    for message in messages["/aopsam/masks"]:
        assert message.header.stamp.nanosec in stamps and message.masks
        assert (message.height, message.width) == rgb.shape[:2]
        for mask in message.masks:
            assert sum(mask.counts) == mask.roi.width * mask.roi.height
            assert sum(mask.counts[1::2]) == mask.area


def test_the_recording_describes_its_messages_for_other_tools(recorded):
    from rosbags.highlevel import AnyReader

    content = recorded.read_bytes()
    assert content.startswith(b"\x89MCAP0\r\n") and content.endswith(b"\x89MCAP0\r\n")
    with AnyReader([recorded]) as reader:
        definitions = {c.topic: c.msgdef.data for c in reader.connections}
        kinds = {c.topic: c.msgtype for c in reader.connections}
    assert kinds["/aopsam/masks"] == "aopsam_ros/msg/MaskArray"
    assert "MSG: aopsam_ros/Mask" in definitions["/aopsam/masks"]
    assert "uint32[] counts" in definitions["/aopsam/masks"]


def test_a_planner_teaches_a_mug_by_one_click_and_finds_it_in_later_views(tmp_path):
    out = tmp_path / "out"
    demo(out, "--scene", "teach", "--fps", "2", "--repeat", "1")
    printed = (out / "planner.log").read_text(encoding="utf-8")
    assert len(re.findall(r"^mug at \(\d+, \d+\)$", printed, re.MULTILINE)) >= 4
    # The camera's way over the outline that a person drew shows where the mug is.
    outline = np.repeat(255 * hand_masks("coffee.jpg")["cup"][..., None].astype(np.uint8), 3, 2)
    write_rgb(tmp_path / "coffee.jpg", outline)
    cups = {view.name: view.rgb[..., 0] > 90 for view in mug_views(tmp_path)}
    entries = summary_of(out)["photographs"]
    assert len(entries) >= 4
    for entry in entries:
        items = json.loads((out / entry["masks_file"]).read_text(encoding="utf-8"))["masks"]
        masks = zip(items, masks_of(out / entry["masks_file"]), strict=True)
        mugs = [mask for item, mask in masks if item.get("label") == "mug"]
        assert max(iou(mask, cups[entry["photograph"]]) for mask in mugs) > 0.6
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "create_client(Teach" in page and "mug at (" in page  # the program, and what it printed
