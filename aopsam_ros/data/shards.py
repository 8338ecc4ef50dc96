"""Tar shards, as SA-1B is published: streamed for training, or read as frames without labels."""

from __future__ import annotations

import functools
import logging
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.data.dataset_formats import read_sa1b
from aopsam_ros.data.frames import SourceFrame, file_key
from aopsam_ros.data.labelled_images import LabelledImage
from aopsam_ros.errors import DatasetError, EngineError, InputError
from aopsam_ros.images.compressed import decode_file
from aopsam_ros.images.files import IMAGE_SUFFIXES

IMAGES_A_SHARD = 11_186  # of SA-1B, on average
_SHUFFLED = 256  # samples to draw the next one from; images of one shard come in no order anyway
_MOST_DAMAGED = 100  # shards in a row
# What damaged bytes make tarfile raise; some files of that name are compressed.
_UNREADABLE = (OSError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError)

_LOGGER = logging.getLogger(__name__)


def is_shard(path: str | Path) -> bool:
    """Return whether a path, or a pattern of paths or addresses, names tar files."""
    return str(path).endswith(".tar")


class Sa1bShards:
    """SA-1B's tar files, streamed in random order by webdataset, without end.

    Images come in the stream's order, whatever index is asked for. Every process of a run streams
    in an order of its own. Of a damaged shard, what follows the damage is left out, with a warning.

    Args:
        pattern: of paths or addresses, such as `sa1b/sa_{000000..000999}.tar`.

    Raises:
        DatasetError: if a file is missing or is no tar file.
        EngineError: if webdataset is not installed.
    """

    def __init__(self, pattern: str) -> None:
        try:
            from webdataset.shardlists import expand_urls
        except ImportError as error:
            raise EngineError(
                f"{pattern}: streaming tar files needs webdataset ({error}):"
                " `pip install webdataset`"
            ) from error
        self.name, self.path = PurePosixPath(pattern).stem, Path(pattern)
        self.urls: list[str] = expand_urls(pattern)
        local = [Path(url) for url in self.urls if "://" not in url]
        missing = [path for path in local if not path.is_file()]
        if missing:
            raise DatasetError(f"{missing[0]}: no such file")
        each = len(TarFrames(local[0])) if local else IMAGES_A_SHARD
        self._count = each * len(self.urls)
        self._damaged = 0  # shards since the last image

    def __len__(self) -> int:
        """Return about how many images there are: shards are not read to count them."""
        return self._count

    def read(self, index: int) -> LabelledImage:  # noqa: ARG002
        """Return the stream's next image; see `InstanceDataset`."""
        sample = next(self._samples, None)
        if sample is None:
            del self._samples
            raise DatasetError(f"{self.path}: {_MOST_DAMAGED} shards in a row cannot be read")
        self._damaged = 0
        name = f"{sample['__url__']}/{sample['__key__']}"
        if "jpg" not in sample or "json" not in sample:
            raise DatasetError(f"{name}: no .jpg with a .json of the same name")
        return read_sa1b(name, _decode(sample["jpg"], f"{name}.jpg"), sample["json"])

    @functools.cached_property
    def _samples(self) -> Iterator[dict[str, Any]]:
        from webdataset import WebDataset

        stream = WebDataset(
            self.urls,
            resampled=True,
            shardshuffle=False,
            handler=self._leave_out,
            empty_check=False,  # `read` checks
        )
        return iter(stream.shuffle(_SHUFFLED))

    def _leave_out(self, error: Exception) -> bool:
        """Return whether to go on after an error of a shard."""
        reason = ", ".join(fact for fact in error.args if isinstance(fact, str))
        _LOGGER.warning("%s: the rest of a shard is left out: %s", self.path, reason)
        self._damaged += 1
        return self._damaged < _MOST_DAMAGED

    def group(self, index: int) -> str:  # noqa: ARG002
        """See `InstanceDataset`; a stream is never split."""
        return self.name

    def image_path(self, index: int) -> Path:  # noqa: ARG002
        """See `InstanceDataset`."""
        raise DatasetError(
            f"{self.path}: only training on images as they come can stream; unpack the tar files"
        )

    def annotation(self, index: int) -> bytes:  # noqa: ARG002
        """See `InstanceDataset`."""
        raise DatasetError(f"{self.path}: streamed images are read with their labels only")


class TarFrames:
    """The images of one tar file, in its order and without their labels."""

    def __init__(self, path: Path) -> None:
        self.path, self.name, self.rate = path.resolve(), path.stem, 0.0
        try:
            with tarfile.open(path) as tar:
                self._members = [m for m in tar if m.isfile() and _is_image(m.name)]
        except _UNREADABLE as error:
            raise DatasetError(f"{path}: not a readable tar file ({error})") from error
        if not self._members:
            raise DatasetError(f"{path}: no image in this tar file")

    def __len__(self) -> int:
        return len(self._members)

    def key(self) -> str:
        """See `FrameSource`."""
        return file_key([self.path])

    def frames(self) -> Iterator[SourceFrame]:
        """See `FrameSource`."""
        with tarfile.open(self.path) as tar:
            for number, member in enumerate(self._members):
                name = f"{number:06}-{PurePosixPath(member.name).stem}"
                yield SourceFrame(name, name, functools.partial(_read, tar, member))


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> NDArray[np.uint8]:
    try:
        file = tar.extractfile(member)
        content = b"" if file is None else file.read()
    except _UNREADABLE as error:
        raise InputError(f"{member.name}: {error}") from error
    return _decode(content, member.name)


def _decode(content: bytes, name: str) -> NDArray[np.uint8]:
    rgb = decode_file(content)
    if rgb is None:
        raise InputError(f"{name}: not an image that can be read")
    return rgb
