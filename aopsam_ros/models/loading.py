"""Loading models from checkpoints."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.errors import InputError, first_line
from aopsam_ros.models.checkpoints import load_checkpoint, load_state
from aopsam_ros.models.mobile_sam.model import IMAGE_SIZE, MobileSam
from aopsam_ros.models.nano import BACKBONE, NanoSegmenter
from aopsam_ros.models.prompt_predictor import PromptPredictor
from aopsam_ros.models.stored_weights import read_weights


def load_segmenter(path: Path) -> tuple[NanoSegmenter, dict[str, Any]]:
    """Load `segmenter.pt` of `aopsam train-segmenter`; return the model and how it was trained.

    Raises:
        InputError: if there is no such file, or it is not one.
    """
    state = load_checkpoint(path)
    model = NanoSegmenter(state.get("options", {}).get("backbone", BACKBONE))
    return model, _restore(model, state, path)


def load_averaged_segmenter(
    path: Path, others: Sequence[Path] = ()
) -> tuple[NanoSegmenter, dict[str, Any]]:
    """Load a segmenter as `load_segmenter`, with the mean weights of it and of others.

    Runs of which one went on from the other lie in one valley of the loss: their mean is often
    better than each (model soups, arXiv 2203.05482). `others` are as in `load_weights`.

    Raises:
        InputError: if there is no such file, or one is of another model.
        BundleError: if a bundle is malformed.
    """
    model, facts = load_segmenter(path)
    mean = model.state_dict()
    for count, other in enumerate(others, 2):
        weights = load_weights(other)
        try:
            mean = {n: v + (weights[n].reshape(v.shape) - v) / count for n, v in mean.items()}
        except (KeyError, RuntimeError, AttributeError) as error:
            raise InputError(f"{other}: weights of another model than {path} ({error})") from error
    model.load_state_dict(mean)
    return model, facts


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read nano's weights from `segmenter.pt`, or from a bundle that was exported from one.

    Raises:
        InputError: if there is neither.
        BundleError: if the bundle is malformed.
    """
    if path.is_dir():
        return read_weights(load_bundle(path))
    weights: dict[str, Tensor] = load_checkpoint(path)["model"]
    return weights


def load_predictor(path: Path, embedding_channels: int) -> tuple[PromptPredictor, dict[str, Any]]:
    """Load `predictor.pt` of `aopsam train-predictor`; return the model and how it was trained.

    Raises:
        InputError: if there is no such file, or it is not one for embeddings of so many channels.
    """
    model = PromptPredictor(embedding_channels)
    return model, _restore(model, load_checkpoint(path), path)


def _restore(model: nn.Module, state: dict[str, Any], path: Path) -> dict[str, Any]:
    """Give a model the weights of our checkpoint; return what else that says."""
    try:
        model.load_state_dict(state["model"])
    except (RuntimeError, TypeError) as error:
        reason = first_line(error)
        raise InputError(f"{path}: weights of another model ({reason})") from error
    model.eval()
    return {key: value for key, value in state.items() if key not in ("model", "optimizer")}


def load_mobile_sam(path: Path, image_size: int = IMAGE_SIZE) -> MobileSam:
    """Load MobileSAM from its published checkpoint, or one of the same tensors.

    The weights fit any multiple of 16 as the side of the encoder's square, `image_size` pixels, and
    were trained for the default.

    Raises:
        InputError: if there is no such file, it holds other tensors, or values that are not finite.
    """
    model = MobileSam(image_size)
    fill(model, "MobileSAM", path)
    return model


def fill(
    model: nn.Module,
    name: str,
    checkpoint: Path,
    key: str | None = None,
    unused: tuple[str, ...] = (),
) -> nn.Module:
    """Give a model the weights of its authors' checkpoint, all of them and no others.

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
    # As text: a file may hold anything.
    state = {name: value for name, value in state.items() if not str(name).startswith(unused)}
    _check_tensors(checkpoint, name, model.state_dict(), state)
    model.load_state_dict(state)
    return model.eval()


def _check_tensors(
    path: Path, model: str, expected: Mapping[str, Any], actual: Mapping[str, Any]
) -> None:
    """Check the names, shapes, types and values of all tensors of a model's checkpoint."""
    problems = {
        "missing": (name for name in expected if name not in actual),
        "unknown": (name for name in actual if name not in expected),
        "of another shape or type": (n for n in expected if not _fits(expected[n], actual[n])),
        # As float32: a larger number is one there, and becomes infinite here.
        "not finite": (n for n in expected if not torch.isfinite(actual[n].float()).all()),
    }
    for problem, names in problems.items():  # found only where there was none before
        if wrong := list(names):
            raise InputError(
                f"{path}: not {model}'s weights: of {len(expected)} tensors, {len(wrong)} "
                f"{'is' if len(wrong) == 1 else 'are'} {problem}, such as {wrong[0]}"
            )


def _fits(expected: torch.Tensor, actual: object) -> bool:
    """Return whether a value is a plain tensor of real numbers, such as `expected`."""
    return (
        isinstance(actual, torch.Tensor)
        and actual.shape == expected.shape
        and actual.layout == torch.strided
        and not actual.is_meta
        and (
            actual.is_floating_point()
            if expected.is_floating_point()
            else actual.dtype == expected.dtype
        )
    )
