"""Which prompt source a model is used with, where the user leaves the choice."""

from __future__ import annotations

import logging

from aopsam_ros.errors import OptionError
from aopsam_ros.prompting import clusters
from aopsam_ros.prompting.prompts import PromptSource
from aopsam_ros.prompting.sources import make_source

AUTO = "auto"

_LOGGER = logging.getLogger(__name__)


def automatic_source(has_predictor: bool) -> str:
    """Name the source that "auto" stands for: the best one that a bundle can be used with."""
    if has_predictor:
        return "predictor"
    return "clusters" if clusters.installed() else "grid16"


def choose_source(name: str, model: str, has_predictor: bool) -> PromptSource:
    """Return the source a user named for a model, "auto" included, and say which it is.

    Raises:
        OptionError: as `make_source`, or the source needs a predictor and the model has none.
    """
    chosen = automatic_source(has_predictor) if name == AUTO else name
    source = make_source(chosen)
    if source.needs_confidence_map and not has_predictor:
        raise OptionError(
            f"model '{model}' has no prompt predictor: choose another prompt source than "
            f"'{name}', such as {automatic_source(has_predictor)}, or train one with "
            "`aopsam train-predictor` and export the model again with --predictor"
        )
    if name == AUTO and not has_predictor:
        _LOGGER.warning("model '%s' has no prompt predictor: prompts from %s", model, chosen)
    else:
        _LOGGER.info("prompts from %s (%s)", chosen, AUTO if name == AUTO else "as requested")
    return source


def check_source(name: str) -> None:
    """Raise `make_source`'s error for a name that is no source, nor "auto"."""
    if name != AUTO:
        make_source(name)


def needs_boxes(name: str) -> bool:
    """Return whether the source of a name, "auto" included, needs boxes with every frame.

    Raises:
        OptionError: as `make_source`.
    """
    return name != AUTO and make_source(name).needs_boxes
