"""From checkpoints to models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aopsam_ros.errors import InputError
from aopsam_ros.models.checkpoints import load_checkpoint
from aopsam_ros.models.nano import EMBEDDING_CHANNELS, NanoSegmenter
from aopsam_ros.models.prompt_predictor import PromptPredictor


def load_segmenter(path: Path) -> tuple[NanoSegmenter, dict[str, Any]]:
    """Load `segmenter.pt` of `aopsam train-segmenter`; return the model and how it was trained.

    Raises:
        InputError: There is no such file, or it is not one.
    """
    model = NanoSegmenter()
    return model, _fill(model, path)


def load_predictor(path: Path) -> tuple[PromptPredictor, dict[str, Any]]:
    """Load `predictor.pt` of `aopsam train-predictor`; return the model and how it was trained.

    Raises:
        InputError: There is no such file, or it is not one.
    """
    model = PromptPredictor(EMBEDDING_CHANNELS)
    return model, _fill(model, path)


def _fill(model: NanoSegmenter | PromptPredictor, path: Path) -> dict[str, Any]:
    state = load_checkpoint(path)
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: weights of another model ({reason})") from error
    model.eval()
    return {key: value for key, value in state.items() if key not in ("model", "optimizer")}
