"""Following one thing: it moves, turns up elsewhere, hides, comes back, is given up."""

import cv2
import numpy as np
import pytest

from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.errors import InferenceError
from aopsam_ros.masks.rle import decode_full, encode_full
from aopsam_ros.prompting.user_prompts import UserPrompt
from aopsam_ros.results import InstanceMask
from aopsam_ros.segmentation.interactive import segment_prompt
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.streaming.follower import Follower, FollowOptions, TargetState
from aopsam_ros.streaming.object_motion import STANDING, ObjectMotion, moved_map
from aopsam_ros.streaming.stream_segmenter import StreamSegmenter
from support.scenes import iou

MUG, BOX = (0, 220, 60), (0, 60, 220)
FOLLOWED, LOST, GIVEN_UP = TargetState


def scene(mug=None, box=None):
    """Flat rectangles of 24 x 24 pixels on grey, their left top corners given."""
    rgb = np.full((128, 128, 3), 90, np.uint8)
    for corner, colour in ((box, BOX), (mug, MUG)):
        if corner is not None:
            x, y = corner
            rgb[y : y + 24, x : x + 24] = colour
    return rgb


def mask_at(x, y, side=24, size=(128, 128), number=7):
    full = np.zeros(size, np.bool_)
    full[y : y + side, x : x + side] = True
    box, counts = encode_full(full)
    return InstanceMask(number, box, int(full.sum()), 1.0, 1.0, (0, 0), 1.0, "", counts)


@pytest.fixture
def follow(tiny):
    """Follow the mug from 30, 30 on, and return what becomes of it in each further scene."""
    follower = Follower(scene((30, 30), (90, 90)), mask_at(30, 30), FollowOptions(max_lost=3))
    follower.prepare(tiny)

    def update(*corners):
        rgb = scene(*corners)
        return follower.update(tiny, tiny.encode(rgb), rgb)

    return update


def test_a_thing_that_moves_keeps_its_id_and_its_mask(follow):
    for step in range(1, 5):
        target = follow((30 + 6 * step, 30), (90, 90))
        assert target.state == FOLLOWED and target.mask.id == 7
        shown = decode_full(target.mask, 128, 128)
        assert iou(shown, decode_full(mask_at(30 + 6 * step, 30), 128, 128)) > 0.8
        assert target.similarity > 0.9


def test_a_hidden_thing_is_lost_and_found_again_elsewhere(follow):
    for lost in (1, 2):
        target = follow(None, (90, 90))
        assert (target.state, target.mask, target.frames_lost) == (LOST, None, lost)
    target = follow((70, 20), (90, 90))
    assert target.state == FOLLOWED and target.frames_lost == 0
    assert np.abs(np.subtract(target.mask.bbox, (70, 20, 24, 24))).max() <= 2


def test_another_thing_in_its_place_is_not_taken_for_it(follow):
    assert follow(None, (30, 30)).state == LOST


def test_of_a_lost_thing_the_similarity_is_that_of_the_best_mask_found(follow, monkeypatch):
    monkeypatch.setattr(Follower, "_anywhere", lambda *_: None)  # none of its size
    unlike, none = follow(None, (30, 30)), follow(None, None)
    assert (unlike.state, none.state) == (LOST, LOST)
    assert -1.0 < unlike.similarity < -0.3 and none.similarity <= 0.0


def test_a_thing_that_stays_away_is_given_up(follow):
    states = [follow(None, (90, 90)).state for _ in range(4)]
    assert states == [LOST, LOST, LOST, GIVEN_UP]


def test_an_image_of_another_size_ends_nothing(follow, tiny):
    rgb = cv2.resize(scene((30, 30), (90, 90)), (200, 160))
    follower = Follower(scene((30, 30)), mask_at(30, 30))
    follower.prepare(tiny)
    assert follower.update(tiny, tiny.encode(rgb), rgb).state in (FOLLOWED, LOST)


def test_a_thing_whose_mask_fills_no_pixel_is_lost(tiny):
    """Of so thin an image, the pixel of the thing is half of one cell of the decoder's mask."""
    rgb = np.full((3, 84, 3), 90, np.uint8)
    rgb[0, 42] = MUG
    follower = Follower(rgb, mask_at(42, 0, 1, rgb.shape[:2]))
    follower.prepare(tiny)
    target = follower.update(tiny, tiny.encode(rgb), rgb)
    assert target.similarity > 0.9
    assert (target.state, target.mask, target.frames_lost) == (LOST, None, 1)


def test_a_stream_follows_beside_its_masks(tiny):
    stream, follower = StreamSegmenter(tiny), Follower(scene((30, 30)), mask_at(30, 30))
    alone = StreamSegmenter(tiny).segment(scene((36, 30)))
    found = stream.segment(scene((36, 30)), follower=follower)
    assert follower.target.state == FOLLOWED
    assert [m.bbox for m in found.masks] == [m.bbox for m in alone.masks]


def test_what_fails_before_the_first_frame_is_tried_again(tiny, monkeypatch):
    follower = Follower(scene((30, 30)), mask_at(30, 30))

    def fail(*_):
        raise InferenceError("not finite")

    with monkeypatch.context() as patch:
        patch.setattr(tiny, "encode", fail)
        with pytest.raises(InferenceError):
            follower.prepare(tiny)
    StreamSegmenter(tiny).segment(scene((36, 30)), follower=follower)
    assert follower.target.state == FOLLOWED


def test_motion_is_shift_and_turn_inside_the_mask_only():
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    texture = cv2.resize(noise, (320, 320), interpolation=cv2.INTER_CUBIC)
    turn = cv2.getRotationMatrix2D((160, 160), 4, 1.05) + np.array([[0, 0, 5.0], [0, 0, -3.0]])
    moved = cv2.warpAffine(texture, turn, (320, 320))
    inside = np.zeros((64, 64), np.bool_)
    inside[16:48, 16:48] = True
    beside = np.repeat(np.repeat(~inside, 5, 0), 5, 1)
    moved[beside] = texture[beside]  # what is around stands still
    motion = ObjectMotion()
    assert (np.array(motion.update(texture, (64, 64))) == STANDING).all()
    motion.look_at(inside)
    found, around = motion.update(moved, (64, 64))
    np.testing.assert_allclose(around, STANDING, atol=0.02)
    np.testing.assert_allclose(found[:, :2], turn[:, :2], atol=0.02)
    middle = np.array([31.5, 31.5])
    wanted = (turn @ [159.5, 159.5, 1.0] + 0.5) / 5 - 0.5
    np.testing.assert_allclose(found[:, :2] @ middle + found[:, 2], wanted, atol=0.3)
    logits = np.where(inside, 3.0, -3.0).astype(np.float32)
    assert (
        iou(moved_map(logits, found, -6.0) > 0, cv2.warpAffine(logits, found, (64, 64)) > 0) > 0.99
    )


@pytest.mark.parametrize(("name", "point"), [("coffee.jpg", (300, 160))])
def test_a_cup_on_a_photograph_is_followed_through_an_occlusion(root, name, point):
    """A window moves over the photograph; for four frames a grey board hides the cup."""
    rgb = np.ascontiguousarray(cv2.imread(str(root / "photographs" / name))[..., ::-1])
    options = EngineOptions(engine="onnxruntime", threads=1)
    with Segmenter.from_bundle("nano", engine=options) as segmenter:
        prompt = UserPrompt(np.array([point], np.float64), np.ones(1, np.uint8))
        (cup,), _ = segment_prompt(segmenter, segmenter.encode(rgb), prompt)
        whole = decode_full(cup, *rgb.shape[:2])
        x, y, w, h = cup.bbox
        height, width = rgb.shape[0] - 60, rgb.shape[1] - 90
        ious, states = [], []
        follower = None
        for step in range(12):
            left, top = round(45 + 45 * np.sin(step / 2)), round(30 - 30 * np.cos(step / 2))
            window = slice(top, top + height), slice(left, left + width)
            shown = rgb.copy()
            if 5 <= step < 9:
                shown[max(0, y - 5) : y + h + 5, max(0, x - 5) : x + w + 5] = 128
            image, wanted = np.ascontiguousarray(shown[window]), whole[window]
            if follower is None:
                box, counts = encode_full(wanted)
                area = int(wanted.sum())
                own = InstanceMask(1, box, area, 1.0, 1.0, (0, 0), 1.0, "", counts)
                follower = Follower(image, own)
                follower.prepare(segmenter)
                continue
            target = follower.update(segmenter, segmenter.encode(image), image)
            states.append(target.state)
            if target.mask is not None and not 5 <= step < 9:
                ious.append(iou(decode_full(target.mask, *wanted.shape), wanted))
    assert states == [FOLLOWED] * 4 + [LOST] * 4 + [FOLLOWED] * 3
    assert np.mean(ious) > 0.7


def test_its_twin_beside_it_is_not_taken_for_a_hidden_thing(root):
    """Two equal lids on a table: only the place tells which one was there before."""
    table = np.ascontiguousarray(cv2.imread(str(root / "photographs" / "table.jpg"))[..., ::-1])
    lid, empty = table[118:258, 328:468].copy(), table[300:440, 60:200].copy()
    table[300:440, 480:620] = lid
    hidden = table.copy()
    hidden[118:258, 328:468] = empty
    options = EngineOptions(engine="onnxruntime", threads=1)
    with Segmenter.from_bundle("nano", engine=options) as segmenter:
        prompt = UserPrompt(np.array([(400.0, 185.0)]), np.ones(1, np.uint8))
        (mask,), _ = segment_prompt(segmenter, segmenter.encode(table), prompt)
        follower = Follower(table, mask)
        follower.prepare(segmenter)
        states = [
            follower.update(segmenter, segmenter.encode(rgb), rgb).state
            for rgb in (table, hidden, hidden, hidden, table)
        ]
    assert states == [FOLLOWED, LOST, LOST, LOST, FOLLOWED]
    assert np.abs(np.subtract(follower.target.mask.bbox, mask.bbox)).max() <= 5
