"""Options of the trainings: their defaults, their help on the command line, and what they refuse.

Those with a help text are arguments of that name.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aopsam_ros.errors import OptionError

COARSEST_STRIDE = 32  # of the segmenter's last features


def _argument(default: object, text: str, choices: Sequence[str] | None = None) -> Any:  # noqa: ANN401
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True)
class RunOptions:
    """Options of every run."""

    batch_size: int = _argument(8, "images a step, of all processes together")
    learning_rate: float = 2e-3  # peak
    seed: int = _argument(0, "of weights and views")
    loaders: int = _argument(1, "processes that prepare batches, for each GPU")

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise OptionError("the batch size must be at least 1")
        if self.seed < 0:
            raise OptionError("--seed must be 0 or more")


@dataclass(frozen=True)
class TrainingOptions(RunOptions):
    """Options of a run for a given time."""

    minutes: float = _argument(15.0, "training time in all")
    steps: int = _argument(0, "end after so many, if the time is not spent before; 0: not")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 0:
            raise OptionError("the steps must be 0 or more")
        if not 0 < self.minutes < float("inf"):
            raise OptionError("--minutes must be above 0, and finite")


@dataclass(frozen=True)
class PredictorTrainingOptions(TrainingOptions):
    """Options of a Prompt Predictor's run."""

    image_size: int = 512  # the encoder's input size, pixels


@dataclass(frozen=True)
class DistillationOptions(TrainingOptions):
    """Options of a distillation."""

    learning_rate: float = 1e-3
    student: str = _argument(
        "nano",
        "encoder that learns: nano's EfficientNet, MobileSAM's TinyViT",
        choices=("nano", "mobile_sam"),
    )


@dataclass(frozen=True)
class SegmenterTrainingOptions(RunOptions):
    """Everything that decides a run of `nano`'s segmenter and Prompt Predictor."""

    views: int = _argument(
        200_000, "how many views to train on in all; a run can be prolonged, its rates follow them"
    )
    backbone: str = _argument("lite0", "EfficientNet-Lite of this size", choices=("lite0", "lite2"))
    image_size: int = _argument(512, "of the encoder at inference, pixels")
    canvas: int = _argument(384, "of the crops trained on first; smaller is faster")
    full_share: float = _argument(0.2, "last share of the views, trained at the image size")
    decay_share: float = _argument(0.3, "last share of the views, in which the rates fall to zero")
    learning_rate: float = _argument(
        1e-3, "peak, of all but the backbone; half of it from trained weights"
    )
    backbone_rate: float = _argument(
        2.5e-4, "peak, of the pretrained backbone, likewise; 0: it stays as it is, which is faster"
    )
    surfaces: float = _argument(
        0.25, "how often a view asks for unlabelled regions of one colour, too"
    )
    precision: str = _argument(
        "auto",
        "the encoder's arithmetic; auto: bf16 where processor or GPU multiply it faster",
        choices=("auto", "bf16", "fp32"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = (self.image_size, self.canvas)
        if any(size < COARSEST_STRIDE or size % COARSEST_STRIDE for size in sizes):
            raise OptionError(f"image size and canvas must be multiples of {COARSEST_STRIDE}")
        if self.views < 1:
            raise OptionError("the views must be at least 1")
        if not (self.learning_rate > 0 and self.backbone_rate >= 0):
            raise OptionError("the learning rate must be above 0, the backbone's not below")
        if not all(0 <= s <= 1 for s in (self.full_share, self.decay_share, self.surfaces)):
            raise OptionError("shares must be between 0 and 1")
