"""Images from folders, videos and recordings, and what is said of those that have none."""

import sys

import numpy as np
import pytest

from aopsam_ros.data.bags import usual_rate
from aopsam_ros.data.recordings import open_frames
from aopsam_ros.errors import DatasetError, EngineError, InputError
from aopsam_ros.images.files import write_rgb
from support.scenes import draw_ellipses, write_video
from support.written_bags import IMAGE, image_message, text_message, write_bag

pytest.importorskip("rosbags")


def shades(count, height=48, width=64):
    """Distinguishable images: each brighter than the one before."""
    return [np.full((height, width, 3), 20 + 8 * i, np.uint8) for i in range(count)]


def level(rgb):
    return round((float(rgb.mean()) - 20) / 8)


def read_all(source):
    return {frame.name: frame.read() for frame in source.frames()}


def test_folder_of_images(tmp_path):
    for index in range(3):
        write_rgb(tmp_path / f"photo{index}.png", draw_ellipses(index)[0])
    (tmp_path / "notes.txt").write_text("not an image")
    source = open_frames(tmp_path)
    found = read_all(source)
    assert len(source) == len(found) == 3
    assert [name.partition("-")[0] for name in found] == ["photo0", "photo1", "photo2"]
    for index, rgb in enumerate(found.values()):
        np.testing.assert_array_equal(rgb, draw_ellipses(index)[0])


def test_a_changed_image_is_another_frame(tmp_path):
    write_rgb(tmp_path / "photo.png", draw_ellipses(0)[0])
    (before,) = open_frames(tmp_path).frames()
    write_rgb(tmp_path / "photo.png", draw_ellipses(1)[0])
    (after,) = open_frames(tmp_path).frames()
    assert before.name != after.name and before.group == after.group


def test_what_is_no_readable_file_does_not_end_a_folder(tmp_path):
    write_rgb(tmp_path / "photo.png", draw_ellipses(0)[0])
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "gone.jpg").symlink_to("elsewhere.jpg")
    folder, gone, photo = open_frames(tmp_path).frames()
    for broken in (folder, gone):
        with pytest.raises(InputError, match=rf"{broken.group}\.jpg: cannot be read"):
            broken.read()
    np.testing.assert_array_equal(photo.read(), draw_ellipses(0)[0])


@pytest.mark.parametrize("every", [1, 4])
def test_video(tmp_path, every):
    video = write_video(tmp_path / "drive.avi", shades(10))
    source = open_frames(video, every=every)
    found = read_all(source)
    taken = list(range(0, 10, every))
    assert list(found) == [f"frame_{number:06}" for number in taken]
    assert [level(rgb) for rgb in found.values()] == taken
    assert len(source) == len(taken)


def test_frames_may_be_skipped_and_neighbours_belong_together(tmp_path):
    source = open_frames(write_video(tmp_path / "drive.avi", shades(25)))
    read = [level(frame.read()) for frame in source.frames() if int(frame.name[-2:]) in (3, 20)]
    assert read == [3, 20]
    groups = [frame.group for frame in source.frames()]
    assert len(set(groups[:20])) == 1 and set(groups[20:]).isdisjoint(groups[:20])


def test_sources_are_named_by_content_and_choice(tmp_path):
    first = write_video(tmp_path / "a.avi", shades(6))
    keys = {open_frames(first).key(), open_frames(first, every=2).key()}
    moved = first.rename(tmp_path / "elsewhere.avi")
    write_video(tmp_path / "a.avi", shades(7))
    keys |= {open_frames(tmp_path / "a.avi").key()}
    assert len(keys) == 3
    assert open_frames(moved).key() == open_frames(moved).key()


@pytest.mark.parametrize("storage", ["MCAP", "SQLITE3"])
@pytest.mark.parametrize("as_file", [False, True])
def test_recording(tmp_path, storage, as_file):
    images = [draw_ellipses(index)[0] for index in range(5)]
    messages = [image_message(rgb, "rgb8", padding=7) for rgb in images]
    bag = write_bag(
        tmp_path / "drive", {"/camera/image": messages, "/chat": [text_message("hello")]}, storage
    )
    path = next(p for p in bag.iterdir() if p.suffix in (".mcap", ".db3")) if as_file else bag
    source = open_frames(path, every=2)
    found = read_all(source)
    assert source.name == "drive" and len(source) == 3
    assert list(found) == ["frame_000000", "frame_000002", "frame_000004"]
    for rgb, index in zip(found.values(), (0, 2, 4), strict=True):
        np.testing.assert_array_equal(rgb, images[index])


def test_the_rate_of_a_topic_that_starts_late(tmp_path):
    images = [image_message(rgb, "rgb8") for rgb in shades(5)]  # a message each millisecond
    chatter = [text_message("hello")] * 40
    bag = write_bag(tmp_path / "drive", {"/chat": chatter, "/camera": images, "/end": chatter})
    assert open_frames(bag, every=4).rate == pytest.approx(250)


def test_gaps_do_not_change_the_rate():
    second = 1_000_000_000
    stamps = [0, 0.1, 0.2, 5.2, 5.3, 5.4, 5.5, 60.5, 60.6]
    assert usual_rate([round(second * stamp) for stamp in stamps]) == pytest.approx(10)
    assert usual_rate([second]) == usual_rate([]) == 0


def write_ros1_bag(path, topic, images):
    """Write RGB images as a bag of ROS 1."""
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    kinds = store.types
    with Writer(path) as writer:
        connection = writer.add_connection(topic, IMAGE, typestore=store)
        for index, rgb in enumerate(images):
            stamp = kinds["builtin_interfaces/msg/Time"](sec=index, nanosec=0)
            head = kinds["std_msgs/msg/Header"](seq=index, stamp=stamp, frame_id="camera")
            height, width = rgb.shape[:2]
            message = kinds[IMAGE](head, height, width, "rgb8", 0, 3 * width, rgb.ravel())
            writer.write(connection, index, store.serialize_ros1(message, IMAGE))
    return path


def test_recording_of_ros_1(tmp_path):
    images = [draw_ellipses(index)[0] for index in range(3)]
    source = open_frames(write_ros1_bag(tmp_path / "drive.bag", "/camera", images))
    assert len(source) == 3
    for found, expected in zip(read_all(source).values(), images, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_topic_is_chosen(tmp_path):
    bag = write_bag(
        tmp_path / "drive",
        {
            "/left": [image_message(rgb, "rgb8") for rgb in shades(2)],
            "/right": [image_message(rgb, "rgb8") for rgb in shades(4)],
        },
    )
    assert len(open_frames(bag, "/left")) == 2 and len(open_frames(bag, "/right")) == 4
    assert open_frames(bag, "/left").key() != open_frames(bag, "/right").key()
    with pytest.raises(DatasetError, match=r"choose with --topic: /left, /right"):
        open_frames(bag)
    with pytest.raises(DatasetError, match=r"no images on topic /front.*/left, /right"):
        open_frames(bag, "/front")


def damaged(name, change):
    """Make a recording of which a file is changed."""

    def make(path):
        bag = write_bag(path, {"/camera": [image_message(rgb, "rgb8") for rgb in shades(3)]})
        file = next(bag.glob(name))
        file.write_bytes(change(file.read_bytes()))
        return bag

    return make


def text_file(path):
    path.write_text("not a video")
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path, "no such"),
        (lambda path: path.mkdir() or path, "no image in this folder"),
        (text_file, "neither a video"),
        (
            lambda path: write_bag(path, {"/chat": [text_message("hello")]}),
            "no topic of sensor_msgs/msg/Image",
        ),
        (lambda path: write_bag(path, {"/camera": []}), "no image was recorded on /camera"),
        (damaged("*.mcap", lambda content: content[:300]), "not a readable recording"),
        (damaged("metadata.yaml", lambda _: b"["), "not a readable recording"),
        (lambda path: text_file(path.with_suffix(".mcap")), "not a readable recording"),
    ],
)
def test_what_cannot_be_opened_is_named(tmp_path, make, reason):
    path = make(tmp_path / "source")
    with pytest.raises(DatasetError, match=reason) as raised:
        open_frames(path)
    assert str(tmp_path / "source") in str(raised.value) and "\n" not in str(raised.value)


def test_without_rosbags_it_says_what_to_install(tmp_path, monkeypatch):
    for name in ("rosbags", "rosbags.highlevel"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "drive.mcap").write_bytes(b"")
    with pytest.raises(EngineError, match=r"drive\.mcap: reading recordings needs rosbags"):
        open_frames(tmp_path / "drive.mcap")
