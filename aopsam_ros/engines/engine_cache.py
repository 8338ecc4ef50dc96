"""Built engines on disk: found by everything that decides about them, or built again.

A plan is code that the GPU's library runs. So only what this user's own builds left behind is ever
loaded: from a folder nobody else can write in, with the hash that was recorded at the build.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aopsam_ros.errors import FolderError
from aopsam_ros.user_folders import check_private, make_private, user_cache

FORMAT = 1  # of the sidecar
MOST_ENGINES = 24  # kept; the ones not used for longest go first
WAIT_S = 0.5  # between two attempts to take a lock
WRITTEN_S = 86_400.0  # after which nobody is still writing a file

# Everything that a plan depends on, by name; two engines of one key are interchangeable.
EngineKey = Mapping[str, str]

_LOGGER = logging.getLogger(__name__)


class Entry(NamedTuple):
    """What is known about a key: a plan, or else why none may be used."""

    plan: bytes | None
    refusal: str = ""


class EngineCache:
    """Plans with a sidecar each, named by a digest of their key; safe for many processes.

    A cache that cannot be read or written costs time, never a start: engines are built again then.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Use a folder; that of AOPSAM_ENGINE_CACHE or the user's cache if None.

        It is made when something is stored.
        """
        chosen = os.environ.get("AOPSAM_ENGINE_CACHE")
        self.folder = folder or (Path(chosen) if chosen else user_cache("engines"))

    def find(self, key: EngineKey) -> Entry | None:
        """Return what is stored for a key; None if nothing is, or nothing that can be trusted."""
        sidecar = self._file(key, "json")
        if not sidecar.exists():
            return None
        try:
            check_private(self.folder)
            return self._read(key, sidecar)
        except (OSError, ValueError, FolderError) as error:
            _LOGGER.warning("cached engine ignored: %s", error)
            return None

    def store(self, key: EngineKey, plan: bytes) -> None:
        """Keep a plan; on a full disk or in a read-only folder, say so and go on without."""
        self._write(key, {"sha256": _sha256(plan)}, plan)

    def refuse(self, key: EngineKey, reason: str) -> None:
        """Remember that the engine of a key gives wrong results, so that none is built again."""
        self._write(key, {"notes": {"refused": reason}})

    @contextlib.contextmanager
    def locked(self, key: EngineKey, on_wait: Callable[[], None]) -> Iterator[None]:
        """Keep other processes from building the same engine; the lock ends with the process.

        Args:
            key: of the engine.
            on_wait: called about twice a second while another process holds the lock.
        """
        try:
            make_private(self.folder)
            lock = self._file(key, "lock").open("w")
        except (OSError, FolderError) as error:
            _LOGGER.warning("engines cannot be kept: %s", error)
            yield
            return
        with lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    on_wait()
                    time.sleep(WAIT_S)
                except OSError as error:  # a file system without locks, as of some networks
                    _LOGGER.warning("engines may be built twice: %s", error)
                    break
            yield

    def _read(self, key: EngineKey, sidecar: Path) -> Entry:
        described = json.loads(_read_own(sidecar))
        if not isinstance(described, dict) or described.get("format") != FORMAT:
            raise ValueError(f"{sidecar}: written by another release")
        if described.get("key") != dict(key):
            raise ValueError(f"{sidecar}: belongs to another engine")
        notes = described.get("notes", {})
        if "refused" in notes:
            return Entry(None, str(notes["refused"]))
        file = self._file(key, "plan")
        plan = _read_own(file)
        if _sha256(plan) != described.get("sha256"):
            raise ValueError(f"{file}: truncated or altered ({len(plan)} bytes)")
        with contextlib.suppress(OSError):
            os.utime(sidecar)  # it is in use: not the first to go
        return Entry(plan)

    def _write(
        self, key: EngineKey, described: Mapping[str, Any], plan: bytes | None = None
    ) -> None:
        content = {"format": FORMAT, "key": dict(key), **described}
        sidecar = self._file(key, "json")
        try:
            make_private(self.folder)
            self._remove_leftovers(key)
            sidecar.unlink(missing_ok=True)  # nothing describes a plan that is half replaced
            if plan is not None:
                _replace(self._file(key, "plan"), plan)
            _replace(sidecar, json.dumps(content, indent=1).encode())
        except (OSError, FolderError) as error:
            _LOGGER.warning("the engine cannot be kept, the next start builds it again: %s", error)
            return
        with contextlib.suppress(OSError):  # another process may do the same
            self._prune()

    def _remove_leftovers(self, key: EngineKey) -> None:
        """Remove what killed processes left half-written: of this key at once, as it is locked."""
        own = self._file(key, "plan").stem
        described = {sidecar.stem for sidecar in self.folder.glob("*.json")}
        plans = [f for f in self.folder.glob("*.plan") if f.stem not in described]
        for file in [*self.folder.glob("*.partial"), *plans]:
            with contextlib.suppress(OSError):
                if file.name.startswith(own) or time.time() - file.stat().st_mtime > WRITTEN_S:
                    file.unlink()

    def _prune(self) -> None:
        """Remove engines beyond the number that is kept."""
        sidecars = sorted(self.folder.glob("*.json"), key=lambda f: f.stat().st_mtime, reverse=True)
        for sidecar in sidecars[MOST_ENGINES:]:
            for suffix in ("json", "plan", "lock"):
                sidecar.with_suffix(f".{suffix}").unlink(missing_ok=True)

    def _file(self, key: EngineKey, suffix: str) -> Path:
        text = json.dumps(dict(key), sort_keys=True, ensure_ascii=True)
        return self.folder / f"{_sha256(text.encode())}.{suffix}"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read_own(file: Path) -> bytes:
    """Read a regular file that this user (or root) owns and only its owner can write."""
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as reader:
        status = os.fstat(reader.fileno())
        is_own = status.st_uid in (0, os.getuid()) and not status.st_mode & stat.S_IWOTH
        if not stat.S_ISREG(status.st_mode) or not is_own:
            raise ValueError(f"{file}: not a file of one's own")
        return reader.read()


def _replace(file: Path, content: bytes) -> None:
    """Write a file whole or not at all, also if the power fails."""
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as writer:
            writer.write(content)
            writer.flush()
            os.fsync(writer.fileno())
        partial.replace(file)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
