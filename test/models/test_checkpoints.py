"""Checkpoint files: damaged in any way they are refused, and nothing in them is run."""

import io
import os
import random
import resource
import zipfile
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from aopsam_ros.errors import InputError  # noqa: E402
from aopsam_ros.models import checkpoints  # noqa: E402
from aopsam_ros.models.checkpoints import MAX_BYTES, load_checkpoint, load_state, save_atomically  # noqa: E402

STATE = {"model": {"weight": torch.arange(6.0).reshape(2, 3)}, "step": 3, "names": ["a", "b"]}


def test_what_is_saved_is_loaded(tmp_path):
    save_atomically(tmp_path / "x.pt", STATE)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]
    loaded = load_checkpoint(tmp_path / "x.pt")
    assert torch.equal(loaded["model"]["weight"], STATE["model"]["weight"])
    assert (loaded["step"], loaded["names"]) == (3, ["a", "b"])


def test_a_full_disk_is_the_systems_error_and_leaves_the_former_file(tmp_path):
    """Written by torch itself it was a RuntimeError, which no command expects."""
    save_atomically(tmp_path / "x.pt", STATE)
    before = (tmp_path / "x.pt").read_bytes()
    large = {"model": {"weight": torch.zeros(1 << 18)}}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, limits[1]))  # Python ignores its signal
    try:
        with pytest.raises(OSError, match="too large"):
            save_atomically(tmp_path / "x.pt", large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]
    assert (tmp_path / "x.pt").read_bytes() == before


def damaged(content, generator):
    """Change some bytes, or cut the end off."""
    changed = bytearray(content)
    if generator.random() < 0.3:
        changed = changed[: generator.randrange(len(changed))]
    for _ in range(generator.choice((1, 3, 20))):
        if changed:
            changed[generator.randrange(len(changed))] = generator.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("is_zip", [True, False])
def test_damaged_files_are_refused_or_read_but_never_raise_otherwise(tmp_path, is_zip):
    buffer, generator, refusals = io.BytesIO(), random.Random(0), []
    torch.save(STATE, buffer, _use_new_zipfile_serialization=is_zip)
    for _ in range(300):
        (tmp_path / "x.pt").write_bytes(damaged(buffer.getvalue(), generator))
        try:
            assert isinstance(load_state(tmp_path / "x.pt"), dict)
        except InputError as error:
            refusals.append(str(error))
    assert len(refusals) > 150
    assert all(line.startswith(f"{tmp_path / 'x.pt'}: ") for line in refusals)
    assert not any("\n" in line for line in refusals)


def test_of_a_published_zip_the_checkpoint_is_read(tmp_path, monkeypatch):
    torch.save(STATE, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/._x.pt", b"")
        archive.write(tmp_path / "x.pt", "weights/x.pt")
    loaded = load_state(tmp_path / "x.pt.zip")
    assert torch.equal(loaded["model"]["weight"], STATE["model"]["weight"])
    (tmp_path / "x.pt.zip").rename(tmp_path / "y.pt.zip")
    with pytest.raises(InputError, match=r"y\.pt\.zip: holds no y\.pt$"):
        load_state(tmp_path / "y.pt.zip")
    with zipfile.ZipFile(tmp_path / "z.pt.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "x.pt", "z.pt")
    monkeypatch.setattr(checkpoints, "MAX_BYTES", (tmp_path / "x.pt").stat().st_size)
    load_state(tmp_path / "z.pt.zip")


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("is_zip", [True, False])
def test_code_is_not_run_nor_recommended(tmp_path, is_zip):
    state = {"model": Trap(tmp_path / "trapped")}
    torch.save(state, tmp_path / "x.pt", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(InputError) as raised:
        load_state(tmp_path / "x.pt")
    assert not (tmp_path / "trapped").exists()
    assert "more than tensors and plain values" in str(raised.value)
    assert "trust" not in str(raised.value) and "weights_only" not in str(raised.value)
    torch.load(tmp_path / "x.pt", weights_only=False)["model"].close()
    assert (tmp_path / "trapped").exists()  # the trap would have worked


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1, 2], "it holds a list"),
        (torch.zeros(1), "it holds a Tensor"),
        ({"step": 1}, "no model weights"),
    ],
)
def test_other_contents_are_refused(tmp_path, value, reason):
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(InputError, match=reason):
        load_checkpoint(tmp_path / "x.pt")


def test_a_small_file_that_unpacks_to_a_huge_one_is_refused(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(1 << 24))
    size = (tmp_path / "x.pt").stat().st_size
    monkeypatch.setattr(checkpoints, "MAX_BYTES", 2 * size)
    with pytest.raises(InputError, match=f"{1 << 24} bytes, more than"):
        load_state(tmp_path / "x.pt")


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "x.pt").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse: takes no room
    with pytest.raises(InputError, match="more than the"):
        load_state(tmp_path / "x.pt")


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        load_state(tmp_path / "x.pt")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(InputError, match="not a file"):
            load_state(path)
