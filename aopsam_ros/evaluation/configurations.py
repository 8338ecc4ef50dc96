"""What is measured side by side: the prompt sources, the ablation, the rules and the sweeps.

The tables are those of the AoP-SAM paper (tables 1 to 3) and, of clusters, those of Efficient SAM2.
Everything starts from the bundle's own values; a sweep changes one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from aopsam_ros.errors import OptionError
from aopsam_ros.options import OPTIONS, SegmenterOptions, Value
from aopsam_ros.prompting.clusters import PRESETS
from aopsam_ros.prompting.filtering import RULE_OPTIONS
from aopsam_ros.prompting.sources import make_source

PARTS = ("sources", "ablation", "rules", "sweeps", "presets", "merging")
PREDICTOR, CLUSTERS = "predictor", "clusters"
PAPERS_RULE = "paper"

# Around the paper's values: a bundle's own best may lie beside them. The paper has no budget, whose
# sweep shows what each further prompt is worth.
SWEEPS: dict[str, tuple[Value, ...]] = {
    "asf.smoothing_sigma": (0.0, 1.0, 2.0, 3.0, 4.0),
    "asf.confidence_threshold": (0.05, 0.1, 0.2, 0.3, 0.4),
    "asf.min_spacing": (2, 4, 5, 6, 7),
    "asf.elimination_threshold": (1.0, 1.25, 1.3, 1.35, 1.4),
    "asf.elimination_cosine": (0.5, 0.65, 0.75, 0.85, 0.95),
    "asf.max_prompts": (8, 16, 32, 64, 128),
}


@dataclass(frozen=True)
class Configuration:
    """One row of a table: a prompt source with some options changed.

    `part` is one of `PARTS`; `swept` names the option of a sweep.
    """

    part: str
    title: str
    source: str
    changes: dict[str, Value] = field(default_factory=dict)
    swept: str = ""


def configurations(
    sources: Sequence[str], parts: Sequence[str], predictor: SegmenterOptions
) -> list[Configuration]:
    """List what to measure of these prompt sources; `predictor` are that source's own options.

    The last two of `PARTS` need the source "clusters" among them, all others but "sources" the
    source "predictor".

    Raises:
        OptionError: if a source or part is unknown or named twice.
    """
    for words, kind in ((sources, "source"), (parts, "part")):
        if len(set(words)) != len(words):
            raise OptionError(f"a {kind} is named twice: {', '.join(words)}")
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise OptionError(f"unknown part '{unknown[0]}'; known: {', '.join(PARTS)}")
    for source in sources:
        make_source(source)
    found = [Configuration("sources", source, source) for source in sources]
    if PREDICTOR in sources:
        found += _ablation(predictor) if "ablation" in parts else []
        rules = OPTIONS["asf.filtering"].choices if "rules" in parts else ()
        found += [Configuration("rules", r, PREDICTOR, {"asf.filtering": r}) for r in rules]
        found += _sweeps(predictor) if "sweeps" in parts else []
    if CLUSTERS in sources:
        presets: Sequence[str] = list(PRESETS) if "presets" in parts else ()
        found += [Configuration("presets", p, CLUSTERS, {"clusters.preset": p}) for p in presets]
        found += _merging(sources) if "merging" in parts else []
    return found


def _merging(sources: Sequence[str]) -> list[Configuration]:
    """List the sources of points without a predictor, whose masks are suppressed, or merged."""
    made = {name: make_source(name) for name in sources}
    points = [name for name, one in made.items() if not (one.adaptive or one.needs_boxes)]
    return [
        Configuration("merging", f"{name}, {how}", name, {"mask.combine": how})
        for name in points
        for how in ("nms", "merge")
    ]


def _ablation(predictor: SegmenterOptions) -> list[Configuration]:
    """Table 2: every peak of the map; thinned by sampling; by filtering; and by extents, too.

    The paper has no extents: they come last, where the model's own options have them.
    """
    plain: dict[str, Value] = {
        "asf.smoothing_sigma": 0.0,
        "asf.min_spacing": 1,
        "asf.sampling": "peaks",
        "asf.filtering": "none",
        "asf.prompts": "points",
        "asf.max_prompts": 4096,  # the most that the option takes
    }
    own = predictor.asf.filtering
    rule = PAPERS_RULE if own == "none" else own
    steps: list[tuple[str, dict[str, Value]]] = [
        ("predictor only", plain),
        ("+ sampling", {"asf.filtering": "none", "asf.prompts": "points"}),
        (f"+ filtering ({rule})", {"asf.filtering": rule, "asf.prompts": "points"}),
    ]
    if predictor.asf.prompts == "extents":
        steps.append(("+ extents", {"asf.filtering": rule}))
    return [Configuration("ablation", title, PREDICTOR, changes) for title, changes in steps]


def _sweeps(predictor: SegmenterOptions) -> list[Configuration]:
    """Table 3: one option at a time, the model's own value among the others."""
    found = []
    for name, values in SWEEPS.items():
        own = predictor.flat()[name]
        for value in sorted({*values, own}, key=float):
            changes = {name: value, **_rule_for(name, predictor.asf.filtering)}
            found.append(Configuration("sweeps", f"{name} = {value:g}", PREDICTOR, changes, name))
    return found


def _rule_for(swept: str, own: str) -> dict[str, Value]:
    """Choose a rule that makes use of the swept option, where the model's own one does not."""
    if own in RULE_OPTIONS.get(swept, (own,)):
        return {}
    return {"asf.filtering": "duplicates" if swept == "asf.elimination_cosine" else PAPERS_RULE}
