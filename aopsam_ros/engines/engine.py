"""What every engine does: it runs a bundle's graphs one by one.

On a CPU the decoder runs in three parts where the bundle has it so, and padding is left out where
the graphs can do without: they get an image's own sides, rounded up to a multiple of the bundle's
`size_divisibility`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import DECODER, ENCODER, FRAME_PART, LABELLER, PREDICTOR, Bundle
from aopsam_ros.bundle.signatures import (
    ATTENTION,
    EXTENT_MAP,
    IOU,
    LABEL_EMBEDDING,
    LOGITS,
    MASK_INPUT,
    SEMANTIC_MAP,
    Described,
    Shape,
    Shapes,
    Signature,
    check_open_sides,
    mask_inputs,
    signature_of,
)
from aopsam_ros.bundle.split_signature import check_split
from aopsam_ros.engines.base import Arrays, Decoded, DecodedOnHost, Prediction
from aopsam_ros.engines.split_decoder import FrameTensors, ParallelCalls, SplitDecoder
from aopsam_ros.errors import InferenceError
from aopsam_ros.geometry import ContentArea, Sides, content_area, crop_to_content, pad_to_square


@dataclass
class EncodedImage:
    """An image's embedding where the encoder left it."""

    area: ContentArea  # of the padded square that was encoded
    maps: Mapping[str, Any]  # what `_run` returned for the encoder
    frame: FrameTensors | None = None  # what the image's prompts share, once there are any


class Engine(ABC):
    """Runs a bundle's graphs; subclasses load them and run one.

    Embeddings are opaque handles that stay on the device. Every method that runs a graph or reads a
    result raises InferenceError if the graph fails, or gives values of another shape or that are
    not finite.
    """

    name: str  # one of `registry.ENGINES`
    device: str  # where the graphs run: "cpu", "cuda"
    precision: str  # how it computes, for people: "fp32", "fp16 but encoder"
    largest_batch: int | None = None  # the most prompts `decode` takes at once; None: any number
    concurrent: bool  # whether several threads at once may use it, each with embeddings of its own
    keeps_embeddings = True  # whether handles stay valid after another image was encoded
    _drops_unused = False  # whether graphs lose inputs that they do not use, as they are loaded

    def __init__(self, bundle: Bundle) -> None:
        """Begin without graphs."""
        self.has_predictor = PREDICTOR in bundle.graphs  # for `predict`
        self._bundle = bundle
        self._files = {**bundle.graphs, **bundle.split_graphs}
        self._graphs: dict[str, Any] = {}  # of the engine's own type
        self._signatures: dict[str, Signature] = {}  # of whole graphs
        self._split: SplitDecoder | None = None  # where the decoder runs in parts
        self._calls = ParallelCalls()  # of those parts
        self._multiple = 0  # of an image's sides where padding is left out; see `content_area`

    @abstractmethod
    def _load(self, names: Iterable[str]) -> None:
        """Add graphs of the bundle to `_graphs`, once `_check` has found them right."""

    @abstractmethod
    def _run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run a graph on arrays and on values that a graph left on the device.

        Returns:
            Its outputs, and inputs that it keeps: values on the device, by name.

        Raises:
            InferenceError: if the graph fails.
        """

    @abstractmethod
    def _to_host(self, value: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Return a value on the device as an array, which may share its memory."""

    def _needed(self, in_parts: bool) -> list[str]:
        """Return the graphs to begin with: the decoder whole, or in parts where there are any."""
        parts = self._bundle.split_graphs
        left_out = [LABELLER, DECODER] if in_parts and parts else [LABELLER, *parts]
        return [name for name in self._files if name not in left_out]

    def _check(self, inputs: Mapping[str, Described], outputs: Mapping[str, Described]) -> None:
        """Check graphs, and keep the signatures of whole ones and how a decoder's parts fit.

        Raises:
            BundleError: if a graph is not what it must be.
        """
        bundle = self._bundle
        for name in inputs:
            if name in bundle.graphs:
                graph = str(self._files[name].path), inputs[name], outputs[name]
                self._signatures[name] = signature_of(bundle, name, *graph, self._drops_unused)
        if FRAME_PART in inputs:
            self._multiple = bundle.size_divisibility
            for name, found in inputs.items() if self._multiple else ():
                check_open_sides(str(self._files[name].path), self._multiple, found)
            signature = check_split(bundle, inputs, outputs)
            self._split = SplitDecoder(self._run_part, signature, self._calls)

    def _prepare(self, area: ContentArea) -> None:  # noqa: B027  (nothing to do for most)
        """Get ready for images of an area."""

    @property
    def num_masks(self) -> int:
        """M, masks of a prompt: 3 alternatives, or 4 with SAM's single mask, which is the first."""
        if self._split is not None:
            return self._split.signature.num_masks
        return self._signatures[DECODER].outputs[IOU][1] or 0

    @property
    def efficient_batch(self) -> int:
        """From how many prompts at once on more take no less time for each.

        More than one where masks have weights of their own: a call's fixed cost is then that of
        several prompts. Elsewhere more at once only take more memory.
        """
        return 32 if self._split is not None and self._split.signature.is_per_mask else 1

    @property
    def accepts_mask_input(self) -> bool:
        """Whether `decode` takes masks to begin with; where it runs in parts, this loads more."""
        return MASK_INPUT in self._signature(DECODER).inputs

    def encode(self, image: NDArray[np.float32], valid: Sides | None = None) -> EncodedImage:
        """Encode an image to an embedding's handle.

        Args:
            image: normalised and padded, `[1, 3, S, S]`.
            valid: rows and columns that show the image; what lies beyond may be left out.
        """
        self._check_image(image)
        area = content_area(valid, self._bundle.image_size, self._multiple)
        self._prepare(area)
        return EncodedImage(area, self._run(ENCODER, {"image": crop_to_content(image, area)}))

    def embedding(self, handle: EncodedImage) -> NDArray[np.float32]:
        """Copy an embedding to the host, `[1, C, S', S']`."""
        return self._whole_map("embedding", handle)

    def semantic_map(self, handle: EncodedImage) -> NDArray[np.float32] | None:
        """Copy an image's semantic features to the host, `[1, D, S/32, S/32]`.

        None where the bundle's encoder gives none.
        """
        return self._whole_map(SEMANTIC_MAP, handle) if SEMANTIC_MAP in handle.maps else None

    def attention(self, handle: EncodedImage) -> NDArray[np.float32] | None:
        """Copy how much each of N cells of the square attends to each to the host, `[1, N, N]`.

        None where the bundle's encoder gives none.
        """
        shape = self._signatures[ENCODER].outputs.get(ATTENTION)
        if shape is None:
            return None
        return check_output(ATTENTION, self._to_host(handle.maps[ATTENTION]), shape)

    def predict(self, image: NDArray[np.float32], handle: EncodedImage) -> Prediction:
        """Return where prompts should be, and how far their objects reach."""
        self._check_image(image)
        inputs = {"image": crop_to_content(image, handle.area), **handle.maps}
        sizes = self._map_sizes(PREDICTOR, handle.area)
        side = self._bundle.confidence_map_size
        maps = {
            name: pad_to_square(array[0], side)
            for name, array in self._checked(self._run_whole(PREDICTOR, inputs), sizes).items()
        }
        return Prediction(maps["confidence_map"][0], maps.get(EXTENT_MAP))

    def decode(
        self,
        handle: EncodedImage,
        coords: NDArray[np.float32],
        labels: NDArray[np.float32],
        mask_input: NDArray[np.float32] | None = None,
    ) -> Decoded:
        """Decode N prompts of K points, at most `largest_batch`.

        The whole decoder takes mask inputs. It needs the square: what `encode` left out is zero.

        Args:
            handle: from `encode`.
            coords: `[N, K, 2]` in pixels of the padded square.
            labels: `[N, K]`: 1 foreground, 0 background, 2 and 3 box corners, -1 padding.
            mask_input: logits to begin with, `[N, 1, side, side]`, such as a mask of the last call.
        """
        count = len(coords)
        if np.shape(coords)[:2] != np.shape(labels):
            raise InferenceError(
                f"{np.shape(coords)} coordinates do not fit to {np.shape(labels)} labels"
            )
        if self._split is not None and mask_input is None:
            if handle.frame is None:
                embedding = self._to_host(handle.maps["embedding"])
                handle.frame = self._split.encode_frame(embedding, handle.area)
            return self._split.decode(handle.frame, coords, labels)
        signature = self._signature(DECODER)
        is_square = handle.area.rows == handle.area.columns == handle.area.square
        inputs = {
            "embedding": handle.maps["embedding"] if is_square else self.embedding(handle),
            "point_coords": coords,
            "point_labels": labels,
            **mask_inputs(signature, mask_input, count),
        }
        sizes = {name: (count, *shape[1:]) for name, shape in signature.outputs.items()}
        return self._decoded(self._run_whole(DECODER, inputs), sizes)

    def _decoded(self, found: Mapping[str, Any], sizes: Shapes) -> Decoded:
        """Return the outputs of the whole decoder, of these sizes."""
        arrays = self._checked(found, sizes)
        return DecodedOnHost(arrays[LOGITS], arrays[IOU])

    def embed_masks(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the bundle's `labeller`, which is loaded by the first call.

        Args:
            inputs: of N masks, at most 32: crops `[N, 3, L, L]`, RGB 0 to 255, or features
                `[N, D]`, of unit length, as the bundle says.

        Returns:
            `[N, E]`, in the space of text embeddings.
        """
        signature = self._signature(LABELLER)
        sizes = {name: (len(inputs), *shape[1:]) for name, shape in signature.outputs.items()}
        found = self._run(LABELLER, dict.fromkeys(signature.inputs, inputs))
        return self._checked(found, sizes)[LABEL_EMBEDDING]

    def run_graph(self, graph: str, inputs: Arrays) -> Arrays:
        """Run a loaded graph by itself on exactly what it takes; what it gives is not checked.

        Raises:
            InferenceError: if the graph fails or is not loaded.
        """
        return {name: self._to_host(value) for name, value in self._run(graph, inputs).items()}

    def close(self) -> None:
        """Free everything; the engine cannot be used afterwards."""
        self._calls.close()
        self._graphs.clear()

    def _run_part(self, graph: str, inputs: Arrays, sizes: Shapes) -> Arrays:
        """Run a part of the decoder, and check the outputs whose sizes are given."""
        found = self.run_graph(graph, inputs)
        for name, shape in sizes.items():
            check_output(name, found[name], shape)
        return found

    def _signature(self, graph: str) -> Signature:
        """Return a whole graph's signature; what few need is loaded now."""
        if graph not in self._signatures:
            self._load([graph])
        return self._signatures[graph]

    def _loaded(self, graph: str) -> Any:  # noqa: ANN401
        if graph not in self._graphs:
            raise InferenceError(f"{graph} is not loaded, or the engine is closed")
        return self._graphs[graph]

    def _run_whole(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run a whole graph on those of the inputs that it takes; see `_run`."""
        taken = self._signatures[graph].inputs
        return self._run(graph, {name: value for name, value in inputs.items() if name in taken})

    def _checked(self, found: Mapping[str, Any], sizes: Shapes) -> dict[str, NDArray[np.float32]]:
        """Copy outputs of these sizes to the host and check them."""
        return {n: check_output(n, self._to_host(found[n]), shape) for n, shape in sizes.items()}

    def _whole_map(self, name: str, handle: EncodedImage) -> NDArray[np.float32]:
        """Copy a map of the encoder to the host, check it, and pad it to the square's."""
        sizes = {name: self._map_sizes(ENCODER, handle.area)[name]}
        found = self._checked(handle.maps, sizes)[name]
        return np.array(pad_to_square(found, self._signatures[ENCODER].outputs[name][-1] or 0))

    def _map_sizes(self, graph: str, area: ContentArea) -> dict[str, Shape]:
        """Return the shapes of a graph's maps of an area of the square."""
        outputs = self._signatures[graph].outputs
        return {name: (*s[:2], *area.in_map(s[-1] or 0)) for name, s in outputs.items()}

    def _check_image(self, image: NDArray[np.float32]) -> None:
        side = self._bundle.image_size
        if np.shape(image) != (1, 3, side, side):
            raise InferenceError(
                f"{ENCODER} takes images of shape {[1, 3, side, side]}, not {list(np.shape(image))}"
            )


def check_output(name: str, array: NDArray[np.float32], shape: Shape) -> NDArray[np.float32]:
    """Return a graph's output if its shape is the wanted one and all its values are finite.

    Raises:
        InferenceError: if not.
    """
    fits = array.ndim == len(shape) and all(
        size in (None, found) for size, found in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise InferenceError(f"{name} has shape {list(array.shape)}, expected {list(shape)}")
    # A sum is finite only if every term is, and is several times faster than looking at each.
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum()
    if not np.isfinite(total) and not np.isfinite(array).all():
        raise InferenceError(f"{name} holds values that are not finite")
    return array
