"""How long a model's frames took lately: what the next one's time budget has room for.

Neither a call of the decoder nor the end of a frame is free of prompts or masks: each costs about
as much as a few of them whatever it does (on a processor two or three prompts of MobileSAM, seven
of `nano`). With that share, what few of them took does not make many seem out of reach.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SHARED = 4  # prompts or masks whose time a call or an end takes for itself
_FRAMES = 8  # that are remembered


def portions(count: float) -> float:
    """Return what so many prompts or masks take, in shares of one."""
    return count + SHARED


class Lately:
    """Seconds a portion of something took, in each of the last frames."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._seconds: tuple[float, ...] = ()  # replaced as a whole, as threads may share it

    def learn(self, count: int, seconds: float) -> None:
        """Take in a frame, of so many prompts or masks."""
        self._seconds = (*self._seconds, seconds / portions(count))[-_FRAMES:]

    @property
    def seconds(self) -> float:
        """Return what a portion may take; 0 while fewer than two frames are known.

        The second longest of the last frames: a budget is to be kept, but a single hiccup of the
        machine, or a first frame that warms it up, tells nothing of the next.
        """
        return sorted(self._seconds)[-2] if len(self._seconds) > 1 else 0.0


@dataclass(frozen=True)
class Pace:
    """What every frame teaches the next one's time budget.

    Threads may share it: whether one sees the other's last frame makes no difference of note.

    Attributes:
        opening: a frame's first decoder call, which pays for what all prompts share.
        end: what follows its last call, until masks are made of all that was found.
    """

    opening: Lately = field(default_factory=Lately)
    end: Lately = field(default_factory=Lately)

    def least(self) -> float:
        """Return the seconds that a frame takes for a single prompt and its mask."""
        return (self.opening.seconds + self.end.seconds) * portions(1)
