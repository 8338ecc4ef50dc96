"""The table of prompt sources, and the choice among them."""

import logging
import re
from collections.abc import Mapping

from aopsam_ros.errors import OptionError
from aopsam_ros.prompting import clusters
from aopsam_ros.prompting.detections import BoxCentreSource, BoxSource
from aopsam_ros.prompting.grid import MAX_SIDE, GridSource
from aopsam_ros.prompting.prompts import PromptSource
from aopsam_ros.prompting.sampling import PredictorSource

AUTO = "auto"
KNOWN = "predictor, boxes, box_centres, clusters, grid16, grid32, gridN"

_SOURCES: Mapping[str, PromptSource] = {
    source.name: source
    for source in (PredictorSource(), BoxSource(), BoxCentreSource(), clusters.ClusterSource())
}
_LOGGER = logging.getLogger(__name__)


def make_source(name: str) -> PromptSource:
    """Return the source of a name; "auto" is none before it is resolved.

    Raises:
        OptionError: unknown name, or a grid of no or too many points.
    """
    if name in _SOURCES:
        return _SOURCES[name]
    match = re.fullmatch(r"grid([0-9]{1,4})", name)
    if match is None:
        raise OptionError(f"unknown prompt source '{name}'; known: {AUTO}, {KNOWN}")
    side = int(match.group(1))
    if not 1 <= side <= MAX_SIDE:
        raise OptionError(f"prompt source '{name}': a grid has 1 to {MAX_SIDE} points a side")
    return GridSource(side)


def choose_source(name: str, model: str, has_predictor: bool) -> PromptSource:
    """Return the source a user named for a model, "auto" included, and log which it is.

    Raises:
        OptionError: as `make_source`, or the source needs a predictor and the model has none.
    """
    chosen = _automatic(has_predictor) if name == AUTO else name
    source = make_source(chosen)
    if source.needs_confidence_map and not has_predictor:
        raise OptionError(
            f"model '{model}' has no prompt predictor: choose another prompt source than "
            f"'{name}', such as {_automatic(has_predictor)}, or train one with "
            "`aopsam train-predictor` and export the model again with --predictor"
        )
    if name == AUTO and not has_predictor:
        _LOGGER.warning("model '%s' has no prompt predictor: prompts from %s", model, chosen)
    else:
        _LOGGER.info("prompts from %s (%s)", chosen, AUTO if name == AUTO else "as requested")
    return source


def needs_boxes(name: str) -> bool:
    """Return whether the source of a name, "auto" included, needs boxes with every frame.

    Raises:
        OptionError: as `make_source`.
    """
    return name != AUTO and make_source(name).needs_boxes


def _automatic(has_predictor: bool) -> str:
    """Name the best source that works; asking for clusters imports scikit-learn: 70 MB."""
    if has_predictor:
        return "predictor"
    return "clusters" if clusters.installed() else "grid16"
