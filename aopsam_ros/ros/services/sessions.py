"""The images that users of `~/segment` refine masks on: few, and not for long."""

import threading
import time
from dataclasses import dataclass, field

from std_msgs.msg import Header

from aopsam_ros.segmentation.interactive import Refinement

MOST_SESSIONS = 4  # each keeps an image's embedding; the one used longest ago gives way


@dataclass
class Session:
    """An encoded image with its header; one request at a time may use it, holding `lock`."""

    header: Header
    refinement: Refinement
    used: float = 0.0  # monotonic seconds
    lock: threading.Lock = field(default_factory=threading.Lock)


class Sessions:
    """Sessions by name; any thread may use it."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}  # in the order of their last use
        self._lock = threading.Lock()

    def find(self, name: str) -> Session | None:
        """Return the session of a name, which counts as used now; None if it has ended."""
        with self._lock:
            session = self._sessions.get(name)
            if session is not None:
                self._use(name, session)
            return session

    def begin(self, name: str, session: Session) -> None:
        """Keep a session, in place of one of that name."""
        with self._lock:
            self._use(name, session)
            if len(self._sessions) > MOST_SESSIONS:
                del self._sessions[next(iter(self._sessions))]

    def _use(self, name: str, session: Session) -> None:
        session.used = time.monotonic()
        self._sessions.pop(name, None)
        self._sessions[name] = session  # as the last one

    def expire(self, seconds: float) -> None:
        """End the sessions that nobody used for so long."""
        oldest = time.monotonic() - seconds
        with self._lock:
            kept = {name: one for name, one in self._sessions.items() if one.used >= oldest}
            self._sessions = kept
