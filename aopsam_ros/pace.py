"""How long prompts and masks took in the last frames: what a time budget has room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

_FRAMES = 8  # that are remembered


class Lately:
    """Seconds apiece of something, as the last frames had it."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._seconds: tuple[float, ...] = ()  # replaced as a whole, as threads may share it

    def learn(self, pieces: int, seconds: float) -> None:
        """Take in a frame; one with no pieces tells nothing."""
        if pieces:
            self._seconds = (*self._seconds, seconds / pieces)[-_FRAMES:]

    @property
    def seconds(self) -> float:
        """Return what a piece may take; 0 while nothing is known.

        The second longest of the last frames: a budget is to be kept, and a single hiccup of the
        machine tells nothing of the next frame.
        """
        longest = sorted(self._seconds)[-2:]
        return longest[0] if longest else 0.0


@dataclass(frozen=True)
class Pace:
    """What the frames of a model took; each teaches it, and the next one's budget asks it.

    Threads may share it: whether one sees the other's last frame makes no difference of note.

    Attributes:
        opening: what a frame's first decoder call takes beyond its prompts.
        prompt: a prompt, in the calls after it.
        mask: a found mask, from the last call to the end of the frame.
    """

    opening: Lately = field(default_factory=Lately)
    prompt: Lately = field(default_factory=Lately)
    mask: Lately = field(default_factory=Lately)

    def learn_rounds(self, rounds: Sequence[tuple[int, float]]) -> None:
        """Take in a frame's rounds: how many prompts, in how many seconds."""
        if not rounds:
            return
        prompts, seconds = rounds[0]
        if len(rounds) > 1 or not self.prompt.seconds:
            # Where frames end after their first call, there is nothing else to learn from.
            some = rounds[1:] or rounds
            self.prompt.learn(sum(count for count, _ in some), sum(took for _, took in some))
        self.opening.learn(1, max(0.0, seconds - prompts * self.prompt.seconds))
