"""The table of prompt sources, and the choice among them."""

import logging
import re
from collections.abc import Callable, Mapping

from aopsam_ros.errors import OptionError
from aopsam_ros.prompting.clusters import ClusterSource
from aopsam_ros.prompting.confidence_map_sampling import PredictorSource
from aopsam_ros.prompting.detections import BoxCentreSource, BoxSource
from aopsam_ros.prompting.filtering import RULE_OPTIONS
from aopsam_ros.prompting.grid import MAX_RANDOM, MAX_SIDE, GridSource, RandomSource
from aopsam_ros.prompting.prompts import PromptSource

AUTO = "auto"
KNOWN = "predictor, boxes, box_centres, clusters, grid16, grid32, gridN, randomN"

_SOURCES: Mapping[str, PromptSource] = {
    source.name: source
    for source in (PredictorSource(), BoxSource(), BoxCentreSource(), ClusterSource())
}
_LOGGER = logging.getLogger(__name__)


def make_source(name: str) -> PromptSource:
    """Return the source of a name; "auto" is none before it is resolved.

    Raises:
        OptionError: if the name is unknown, or has no or too many points.
    """
    if name in _SOURCES:
        return _SOURCES[name]
    match = re.fullmatch(r"(grid|random)([0-9]{1,4})", name)
    if match is None:
        raise OptionError(f"unknown prompt source '{name}'; known: {AUTO}, {KNOWN}")
    kind, number = match[1], int(match[2])
    if kind == "grid" and not 1 <= number <= MAX_SIDE:
        raise OptionError(f"prompt source '{name}': a grid has 1 to {MAX_SIDE} points a side")
    if not 1 <= number <= MAX_RANDOM:
        raise OptionError(f"prompt source '{name}': 1 to {MAX_RANDOM} points")
    return GridSource(number) if kind == "grid" else RandomSource(number)


def choose_source(name: str, model: str, has_predictor: bool, prompter: str = "") -> PromptSource:
    """Return the source a user named for a model, "auto" included, and log which it is.

    `model` is the bundle's name, for messages; `prompter` the model that its predictor is taken
    from, where it is not this one.

    Raises:
        OptionError: as `make_source`, or the source needs a predictor and the model has none.
    """
    source = make_source(_automatic(has_predictor) if name == AUTO else name)
    if source.needs_confidence_map and not has_predictor:
        raise OptionError(
            f"model '{model}' has no prompt predictor: choose another prompt source than "
            f"'{name}', such as {_automatic(has_predictor)}, or give it a predictor with "
            f"`aopsam add-prompter {model}` or `aopsam train-predictor`"
        )
    if name == AUTO and not has_predictor:
        _LOGGER.warning(
            "model '%s' has no prompt predictor (`aopsam add-prompter` gives it one): "
            "prompts from %s",
            model,
            source.name,
        )
    else:
        how = AUTO if name == AUTO else "as requested"
        _LOGGER.info("prompts from %s (%s)", described(source, prompter), how)
    return source


def described(source: PromptSource, prompter: str) -> str:
    """Name a source for people, with the model that its predictor is taken from, if any."""
    return (
        f"{source.name} of {prompter}" if prompter and source.needs_confidence_map else source.name
    )


def without_effect(
    name: str, source: PromptSource, filtering: str, refines_boxes: Callable[[], bool]
) -> str:
    """Say why an option has no effect; "" where it has.

    Args:
        name: the option's.
        source: of the prompts.
        filtering: `asf.filtering`.
        refines_boxes: whether the decoder takes masks as input; called only where that matters,
            as an engine may have to load a graph to know.
    """
    if source.takes(name):
        if name == "boxes.refine" and not refines_boxes():
            return f"{name} has no effect with a decoder that takes no mask as input"
        if filtering not in RULE_OPTIONS.get(name, (filtering,)):
            return f"{name} has no effect with asf.filtering '{filtering}'"
        return ""
    if any(other.takes(name) for other in (*_SOURCES.values(), GridSource(1))):
        return f"{name} has no effect with the prompt source '{source.name}'"
    return ""


def needs_boxes(name: str) -> bool:
    """Return whether the source of a name, "auto" included, needs boxes with every frame.

    Raises:
        OptionError: as `make_source`.
    """
    return name != AUTO and make_source(name).needs_boxes


def _automatic(has_predictor: bool) -> str:
    return "predictor" if has_predictor else "clusters"
