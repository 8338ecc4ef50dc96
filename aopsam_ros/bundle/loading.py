"""Model bundles: where they are found, and the checks before anything of them is used."""

import contextlib
import dataclasses
import hashlib
import json
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from aopsam_ros.bundle.fields import Fields
from aopsam_ros.errors import BundleError, OptionError, first_line
from aopsam_ros.geometry import Resize
from aopsam_ros.masks.selection import ScoreWeights
from aopsam_ros.options import SegmenterOptions, name_in_group
from aopsam_ros.user_folders import user_data

BUNDLE_FILE = "bundle.yaml"
ENCODER, PREDICTOR, DECODER = "encoder", "prompt_predictor", "mask_decoder"
LABELLER = "labeller"
GRAPHS = (ENCODER, PREDICTOR, DECODER, LABELLER)
OPTIONAL_GRAPHS = (PREDICTOR, LABELLER)
PREDICTOR_INPUTS = ("image", "embedding")
# The decoder in three parts, for engines that gain by it; see `split_signature`.
SPLIT = FRAME_PART, PROMPT_PART, MASK_PART = "decoder_frame", "decoder_prompts", "decoder_masks"
MAX_YAML_BYTES, MAX_ALIASES = 1 << 18, 16
IMAGE_SIZES = 32, 4096  # pixels, least and largest
MAX_GRAPH_BYTES = (1 << 31) - 1  # what one ONNX file without external data can hold
# Groups of `defaults`: the options of all prompt sources, then those of one source each.
SOURCE_GROUPS = ("predictor", "grid", "boxes", "box_centres", "clusters")
DEFAULT_GROUPS = ("asf", "mask", *SOURCE_GROUPS)
# What a bundle says of itself, and defaults, which options stand for: nothing is computed by them.
_DESCRIPTIVE = ("folder", "name", "version", "licence", "provenance", "prompter", "defaults")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Graph:
    """One ONNX file of a bundle."""

    path: Path
    sha256: str

    def read(self) -> bytes:
        """Return the file's content, checked against its sha256.

        Raises:
            BundleError: if it is missing, too large or altered.
        """
        content = _read_file(self.path, MAX_GRAPH_BYTES)
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            raise BundleError(
                f"{self.path}: sha256 is {digest[:12]}..., but {BUNDLE_FILE} says "
                f"{self.sha256[:12]}...; the file is damaged or altered, install the bundle again"
            )
        return content


@dataclass(frozen=True)
class LabellerSizes:
    """What the graph `labeller` takes, of each mask, and gives."""

    takes: str  # "crops", of the image, or "features", the mean of the semantic map in the mask
    input_size: int  # side of crops, pixels, or D of features
    embedding_size: int


@dataclass(frozen=True)
class AttentionOrigin:
    """Which of the encoder's attention its output `attention` is."""

    layer: int  # block of the encoder, from 0; its attention reaches over the whole square
    head: int  # of that block, from 0
    side: int  # the attention is between `side` x `side` cells of the square


@dataclass(frozen=True)
class Bundle:
    """A checked bundle.yaml; sizes in pixels, mean and std on the 0-255 scale."""

    folder: Path
    name: str
    version: str
    licence: str
    provenance: Any
    image_size: int
    # what the sides of images must be multiples of in the encoder, the predictor and the decoder's
    # three parts, which need no padding to a square then; 0: they do
    size_divisibility: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    embedding_shape: tuple[int, int, int, int]
    similarity_channels: int  # how many of the embedding's first channels ASF filtering compares
    low_res_mask_size: int
    confidence_map_size: int  # side of the map, cells; 0 without a prompt predictor
    stability_offset: float
    graphs: Mapping[str, Graph]  # of `GRAPHS`, in 32 bits
    mixed_graphs: Mapping[str, Graph]  # the same graphs in mixed precision, may be empty
    split_graphs: Mapping[str, Graph]  # the decoder in three parts, may be empty
    # the encoder in 8 bits, alone or with the predictor; may be empty
    int8_graphs: Mapping[str, Graph]
    defaults: Mapping[str, Mapping[str, object]]  # option values by the groups of `DEFAULT_GROUPS`
    # of the prompt predictor: "image" and "embedding", or one of them
    predictor_inputs: tuple[str, ...] = PREDICTOR_INPUTS
    # whether an image keeps its proportions, and is padded to the square, or is stretched to it
    resize: Resize = "pad"
    prompter: str = ""  # model whose prompts these are, name and version; "": this one
    # what masks are scored by whose prompts have a predicted box; None: by predicted IoU
    score_weights: ScoreWeights | None = None
    labeller: LabellerSizes | None = None  # None: there is no such graph
    attention: AttentionOrigin | None = None  # None: the encoder gives none

    @property
    def all_graphs(self) -> list[Graph]:
        """Every graph there is, in all its forms."""
        kinds = (self.graphs, self.split_graphs, self.mixed_graphs, self.int8_graphs)
        return [graph for kind in kinds for graph in kind.values()]

    @property
    def digest(self) -> str:
        """Hash all of it that results depend on, but for `defaults`: those are in the options."""

        def plain(value: Any) -> object:  # noqa: ANN401
            return value.sha256 if isinstance(value, Graph) else dataclasses.asdict(value)

        names = [field.name for field in dataclasses.fields(self)]
        facts = {name: getattr(self, name) for name in names if name not in _DESCRIPTIVE}
        return hashlib.sha256(json.dumps(facts, default=plain).encode()).hexdigest()

    def options(
        self, group: str = "", source: Mapping[str, object] | None = None
    ) -> SegmenterOptions:
        """Return the default options for a prompt source.

        Args:
            group: a prompt source's own group in `defaults`, which goes before `defaults.mask`.
            source: options the source sets itself, between those two.

        Raises:
            BundleError: if a default is unknown or out of range.
        """
        values = {f"asf.{key}": value for key, value in self.defaults.get("asf", {}).items()}
        values |= {f"mask.{key}": value for key, value in self.defaults.get("mask", {}).items()}
        values |= source or {}
        if group:
            own = self.defaults.get(group, {})
            values |= {name_in_group(group, key): value for key, value in own.items()}
        try:
            return SegmenterOptions().updated(values)
        except OptionError as error:
            raise BundleError(f"{self.folder / BUNDLE_FILE}: defaults: {error}") from None


def search_folders() -> list[Path]:
    """Return the folders that hold bundles: the package's, the source checkout's, the user's."""
    installed, source = Path(__file__).parents[1], Path(__file__).resolve().parents[1]
    folders = [installed, source, source.parent]
    return list(dict.fromkeys([*(f / "bundles" for f in folders), user_data("bundles")]))


def available() -> list[str]:
    """Return the names of the bundles that can be found by name, sorted."""
    files = (file for folder in search_folders() for file in folder.glob(f"*/{BUNDLE_FILE}"))
    return sorted({file.parent.name for file in files if _NAME.fullmatch(file.parent.name)})


def find_bundle(name_or_path: str | Path) -> Path:
    """Return the folder of a bundle, by its name or by the path of its folder.

    Raises:
        BundleError: if there is none; the message lists the names there are.
    """
    text = str(name_or_path)
    path = Path(text).parent if Path(text).name == BUNDLE_FILE else Path(text)
    with contextlib.suppress(OSError, ValueError):  # no file can have such a name
        named = [folder / text for folder in search_folders()] if _NAME.fullmatch(text) else []
        for folder in [*named, path] if text else []:
            if (folder / BUNDLE_FILE).exists():
                return folder
        if text and path.exists():
            raise BundleError(f"{path}: not a model bundle, it holds no {BUNDLE_FILE}")
    if text == "mobile_sam":  # which is not shipped
        raise BundleError(
            "model bundle 'mobile_sam' not found; make it first: `aopsam models fetch mobile_sam`, "
            "then `aopsam export --checkpoint mobile_sam --mixed`; or choose model 'nano', which "
            "is built in"
        )
    shown = text if len(text) <= 100 else text[:97] + "..."
    raise BundleError(
        f"model bundle '{shown}' not found; give one of these names "
        f"({', '.join(available()) or 'none is installed'}) or the path of a folder with a "
        f"{BUNDLE_FILE}"
    )


def load_bundle(name_or_path: str | Path) -> Bundle:
    """Find a bundle and check its bundle.yaml; graphs are read, and checked, later.

    Raises:
        BundleError: if it is missing or bundle.yaml is malformed; the message names the file.
    """
    file = find_bundle(name_or_path) / BUNDLE_FILE
    try:
        text = _read_file(file, MAX_YAML_BYTES).decode("utf-8")
        aliases = (event for event in yaml.parse(text) if isinstance(event, yaml.AliasEvent))
        if sum(1 for _ in aliases) > MAX_ALIASES:  # else they can stand for more than memory holds
            raise ValueError(f"more than {MAX_ALIASES} aliases (*name)")
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = first_line(error)
        raise BundleError(f"{file}: not readable as YAML: {reason}") from None
    return _parse(Fields(file, content))


def _parse(fields: Fields) -> Bundle:
    image_size = fields.integer("image_size", *IMAGE_SIZES)
    shape = fields.integers("embedding_shape", 4, 1, 1 << 16)
    if shape[0] != 1 or shape[2] != shape[3] or shape[2] > image_size:
        raise fields.error("embedding_shape", "[1, channels, side, side]", list(shape))
    graphs = _graphs(fields, "graphs", GRAPHS)
    bundle = Bundle(
        folder=fields.file.parent,
        name=fields.text("name"),
        version=fields.text("version"),
        licence=fields.text("licence"),
        provenance=fields.any("provenance"),
        image_size=image_size,
        size_divisibility=_divisibility(fields, image_size),
        mean=fields.triple("mean", -1e4),
        std=fields.triple("std", 1e-3),
        embedding_shape=(shape[0], shape[1], shape[2], shape[3]),
        similarity_channels=fields.integer("similarity_channels", 1, shape[1], shape[1]),
        low_res_mask_size=fields.integer("low_res_mask_size", 8, 2048),
        confidence_map_size=(
            fields.integer("confidence_map_size", 8, 4096) if PREDICTOR in graphs else 0
        ),
        resize=cast("Resize", fields.choice("resize", ("pad", "stretch"), "pad")),
        predictor_inputs=fields.names("predictor_inputs", PREDICTOR_INPUTS),
        prompter="" if fields.any("prompter") is None else fields.text("prompter"),
        stability_offset=fields.number("stability_offset", 0.0, 100.0, 1.0),
        graphs=graphs,
        mixed_graphs=_graphs(fields, "mixed_graphs", GRAPHS),
        split_graphs=_graphs(fields, "split_graphs", SPLIT),
        int8_graphs=_graphs(fields, "int8_graphs", (ENCODER, PREDICTOR)),
        defaults=fields.groups("defaults", DEFAULT_GROUPS),
        score_weights=_score_weights(fields),
        labeller=_labeller(fields) if LABELLER in graphs else None,
        attention=_attention(fields),
    )
    if bundle.attention is not None and bundle.size_divisibility:
        raise fields.error("attention", "left out beside size_divisibility", bundle.attention)
    for group in SOURCE_GROUPS:
        bundle.options(group)  # a wrong default is the bundle's fault: say so now
    return bundle


def _score_weights(fields: Fields) -> ScoreWeights | None:
    if fields.any("score_weights") is None:
        return None
    inner = fields.inner("score_weights")
    names = [field.name for field in dataclasses.fields(ScoreWeights)]
    return ScoreWeights(**{name: inner.number(name, -1e3, 1e3, 0.0) for name in names})


def _labeller(fields: Fields) -> LabellerSizes:
    inner = fields.inner(LABELLER)
    sizes = (inner.integer(name, 1, 1 << 16) for name in ("input_size", "embedding_size"))
    return LabellerSizes(inner.choice("input", ("crops", "features")), *sizes)


def _attention(fields: Fields) -> AttentionOrigin | None:
    if fields.any("attention") is None:
        return None
    inner = fields.inner("attention")
    layer, head = (inner.integer(name, 0, 1000) for name in ("layer", "head"))
    return AttentionOrigin(layer, head, inner.integer("side", 2, 64))


def _divisibility(fields: Fields, image_size: int) -> int:
    key = "size_divisibility"
    if fields.any(key) is None:
        return 0
    divisor = fields.integer(key, 1, image_size)
    if image_size % divisor:
        raise fields.error(key, f"a divisor of image_size {image_size}", divisor)
    return divisor


def _graphs(fields: Fields, key: str, names: Sequence[str]) -> dict[str, Graph]:
    """Read the files listed at `key`; only `graphs`, and what is not optional, must be there."""
    graphs: dict[str, Graph] = {}
    if key != "graphs" and fields.any(key) is None:
        return graphs
    entries = fields.inner(key)
    for name in names:
        if name in OPTIONAL_GRAPHS and entries.any(name) is None:
            continue
        entry = entries.inner(name)
        file, digest = entry.text("file"), entry.text("sha256")
        # Only a plain name: nothing outside the bundle's folder is ever opened.
        if not _NAME.fullmatch(file):
            raise entry.error("file", "a file name without folders", file)
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise entry.error("sha256", "64 hexadecimal digits", digest)
        graphs[name] = Graph(fields.file.parent / file, digest)
    return graphs


def _read_file(path: Path, limit: int) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device may never end
            raise BundleError(f"{path}: not a file")
        if status.st_size > limit:
            raise BundleError(f"{path}: {status.st_size} bytes, more than the {limit} allowed")
        return path.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{path}: missing; the bundle is incomplete, install it again") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror or error}") from None
