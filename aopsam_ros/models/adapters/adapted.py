"""What an adapter gives, and reading the authors' checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from aopsam_ros.models.checkpoints import load_state
from aopsam_ros.models.export import BundleParts
from aopsam_ros.models.loading import check_tensors

# Least predicted IoU and stability of a mask, as the authors' automatic mask generators have them.
Thresholds = tuple[float, float]


@dataclass(frozen=True)
class Adapted:
    """The authors' modules as the parts of a bundle."""

    parts: BundleParts
    thresholds: Thresholds

    @property
    def defaults(self) -> Mapping[str, Mapping[str, object]]:
        """Default options of the bundle, by group."""
        iou, stability = self.thresholds
        mask = {"predicted_iou_threshold": iou, "stability_threshold": stability}
        return {"mask": mask, "grid": mask}


def fill(
    model: nn.Module,
    name: str,
    checkpoint: Path,
    key: str | None = None,
    unused: tuple[str, ...] = (),
) -> nn.Module:
    """Give a model the weights of a checkpoint, all of them and no others.

    Args:
        model: to fill.
        name: of the model, for errors.
        checkpoint: the file.
        key: under which it holds the weights; None: it holds nothing else.
        unused: beginnings of names that it may hold besides.

    Raises:
        InputError: if there is no such file, it holds other tensors, or values that are not finite.
    """
    state = load_state(checkpoint)
    state = state[key] if key is not None and isinstance(state.get(key), dict) else state
    state = {name: value for name, value in state.items() if not name.startswith(unused)}
    check_tensors(checkpoint, name, model.state_dict(), state)
    model.load_state_dict(state)
    return model.eval()
