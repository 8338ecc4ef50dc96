"""An encoder in 8 bits: made by `aopsam quantize`, used where asked for, else refused."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from aopsam_ros.bundle.loading import PREDICTOR, load_bundle
from aopsam_ros.cli import main
from aopsam_ros.engines import onnxruntime as onnxruntime_engine
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.onnxruntime import OnnxRuntimeEngine
from aopsam_ros.engines.processor import has_amx, has_bf16_products, has_int8_dot_products
from aopsam_ros.engines.registry import FLOATS, create_engine
from aopsam_ros.errors import BundleError, EngineError, VerificationError
from aopsam_ros.images.files import write_rgb
from aopsam_ros.models import quantization
from aopsam_ros.models.prompter import add_prompter
from aopsam_ros.models.quantization import FULL_FIRST_CONVOLUTIONS, write_int8
from aopsam_ros.segmentation.segmenter import Segmenter
from support import tiny_bundle
from support.scenes import coloured_scene
from support.tiny_bundle import MAP, SIZE, edit
from support.tiny_int8 import (
    LAYERS,
    deep_encoder,
    deep_predictor,
    write_deep_bundle,
    write_images,
)

INT8 = "encoder.int8.onnx"
RNG = np.random.default_rng(0)
IMAGES = [RNG.uniform(-4, 4, (1, 3, SIZE, SIZE)).astype(np.float32) for _ in range(3)]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_deep_bundle(tmp_path_factory.mktemp("bundles") / "deep")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("data") / "photographs")


@pytest.fixture(scope="module")
def quantized(source, data):
    out = source.parent / "quantized"
    assert main(["quantize", str(source), "--data", str(data), "--out", str(out)]) == 0
    return out


@pytest.fixture
def copy(quantized, tmp_path):
    return shutil.copytree(quantized, tmp_path / "copy")


def run(path, image):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


def test_the_bundle_is_the_same_with_a_graph_more(source, quantized):
    before, after = load_bundle(source), load_bundle(quantized)
    for name, graph in before.graphs.items():
        assert graph.read() == after.graphs[name].read()
    assert (before.int8_graphs, set(after.int8_graphs)) == ({}, {"encoder"})
    assert after.int8_graphs["encoder"].path == quantized / INT8
    wanted = {**before.provenance, "int8": {"calibrated_on": "4 photographs"}}
    assert (after.name, after.defaults, after.provenance) == ("tiny", before.defaults, wanted)
    assert {file.name for file in quantized.iterdir()} == {
        *(f"{name}.onnx" for name in before.graphs), INT8, "bundle.yaml",
    }  # fmt: skip


def test_the_first_layers_and_shifts_stay_in_32_bits(quantized):
    graph = onnx.load(str(quantized / INT8)).graph
    from_8_bits = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    in_32_bits = {n.output[0]: n for n in graph.node if n.input[0] not in from_8_bits}
    convolutions = [name for name, node in in_32_bits.items() if node.op_type == "Conv"]
    assert convolutions == ["gbr", "conv_0", "conv_1"]
    assert len(convolutions) == FULL_FIRST_CONVOLUTIONS
    assert "shifted" in in_32_bits and "twice" not in in_32_bits
    assert sum(n.op_type == "Conv" for n in graph.node) == 1 + LAYERS


@pytest.fixture(scope="module")
def with_predictor(data, tmp_path_factory):
    """A bundle whose predictor has convolutions, too."""
    folder = tmp_path_factory.mktemp("bundles")
    source = write_deep_bundle(folder / "source", {PREDICTOR: deep_predictor()})
    words = ["quantize", str(source), "--data", str(data), "--out", str(folder / "out")]
    assert main(words) == 0
    return folder / "out"


def test_the_predictor_is_in_8_bits_but_for_what_looks_at_the_image(with_predictor):
    bundle = load_bundle(with_predictor)
    assert set(bundle.int8_graphs) == {"encoder", PREDICTOR}
    graph = onnx.load(str(bundle.int8_graphs[PREDICTOR].path)).graph
    from_8_bits = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    in_8_bits = {n.name: n.input[0] in from_8_bits for n in graph.node if n.op_type == "Conv"}
    assert sorted(in_8_bits.values()) == [False, True]
    found = {}
    for precision in ("int8", "fp32"):
        engine = OnnxRuntimeEngine(bundle, EngineOptions(precision=precision))
        found[engine.precision] = engine.predict(IMAGES[0], engine.encode(IMAGES[0])).confidence_map
    (of_int8, int8), (of_fp32, fp32) = found.items()
    assert (of_int8, of_fp32) == ("fp32, encoder and predictor int8", "fp32")
    assert 0 < np.abs(int8 - fp32).max() < 0.05


def test_a_predictor_in_8_bits_goes_with_its_graph(with_predictor, tmp_path):
    add_prompter(load_bundle(with_predictor), load_bundle("nano"), tmp_path / "b")
    assert set(load_bundle(tmp_path / "b").int8_graphs) == {"encoder"}
    assert not (tmp_path / "b" / "prompt_predictor.int8.onnx").exists()


def test_it_finds_the_same_masks(quantized):
    rgb, objects = coloured_scene()
    found = {}
    for precision in ("int8", "fp32"):
        options = {"engine": "onnxruntime", "precision": precision, "threads": 1}
        with Segmenter.from_bundle(quantized, engine=EngineOptions(**options)) as segmenter:
            found[precision] = segmenter.segment(rgb).masks
            assert segmenter.engine.device == "cpu"
            names = {"int8": "fp32, encoder int8", "fp32": "fp32"}
            assert segmenter.engine.precision == names[precision]
    assert len(found["int8"]) == len(found["fp32"]) > len(objects)
    assert [m.area for m in found["int8"]] == [m.area for m in found["fp32"]]


@pytest.mark.parametrize("gains", [True, False])
def test_it_is_used_where_asked_for_or_where_the_processor_gains_by_it(
    quantized, monkeypatch, gains
):
    monkeypatch.setattr(onnxruntime_engine, "has_int8_dot_products", lambda: gains)
    bundle = load_bundle(quantized)
    full = run(bundle.graphs["encoder"].path, IMAGES[0])
    int8 = run(bundle.int8_graphs["encoder"].path, IMAGES[0])
    assert 0 < np.abs(full - int8).max() < 0.2
    chosen = EngineOptions(precision="int8")  # which leaves one engine
    engines = {"int8": create_engine(bundle, chosen)}
    for precision in FLOATS:
        engines[precision] = OnnxRuntimeEngine(bundle, EngineOptions(precision=precision))
    for precision, engine in engines.items():
        assert engine.name == "onnxruntime"
        found = engine.embedding(engine.encode(IMAGES[0]))
        is_int8 = precision == "int8" or (precision == "auto" and gains)
        np.testing.assert_allclose(found, int8 if is_int8 else full, atol=1e-5)
        assert engine.precision == ("fp32, encoder int8" if is_int8 else "fp32")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_it_is_used_where_the_gpu_cannot_be(quantized, monkeypatch):
    """CUDA's provider is installed, and there is no driver."""
    offered = [onnxruntime_engine.CUDA, *onnxruntime.get_available_providers()]
    monkeypatch.setattr(onnxruntime_engine.ort, "get_available_providers", lambda: offered)
    monkeypatch.setattr(onnxruntime_engine, "has_int8_dot_products", lambda: True)
    engine = OnnxRuntimeEngine(load_bundle(quantized))
    assert (engine.device, engine.precision) == ("cpu", "fp32, encoder int8")


@pytest.mark.parametrize(
    ("has", "enough", "too_little"),
    [
        (has_int8_dot_products, ["avx512f avx512_vnni", "avx_vnni", "asimd asimddp"], "avx2"),
        (has_bf16_products, ["avx512_bf16", "amx_tile amx_bf16"], "avx512f avx512_vnni"),
        (has_amx, ["avx512_bf16 amx_bf16 amx_tile"], "avx512_bf16"),
    ],
)
def test_a_processor_has_what_its_flags_say(tmp_path, has, enough, too_little):
    file = tmp_path / "cpuinfo"
    for flags in (*enough, too_little):
        file.write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n")
        assert has(file) is (flags in enough)
    assert not has(tmp_path / "nothing")


def test_others_refuse_it(quantized):
    bundle = load_bundle(quantized)
    for name in ("tensorrt", "openvino"):
        with pytest.raises(
            EngineError, match=f"'int8' is for engine 'onnxruntime', not for '{name}'"
        ):
            create_engine(bundle, EngineOptions(engine=name, precision="int8"))
    with pytest.raises(EngineError, match="'int8' is for a CPU"):
        OnnxRuntimeEngine(
            bundle, EngineOptions(precision="int8"), gpu_provider="CPUExecutionProvider"
        )


def test_a_bundle_without_it_says_how_to_make_one(source, refused):
    with pytest.raises(BundleError, match="deep: has no encoder in int8; `aopsam quantize` makes"):
        create_engine(load_bundle(source), EngineOptions(precision="int8"))
    assert "has no encoder in int8" in refused(
        "segment", "x.jpg", "--model", str(source), "--precision", "int8"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda fields: fields.update(embedding_shape=[1, 4, MAP, MAP]),
            r"encoder\.int8\.onnx: output embedding has shape",
        ),
        (
            lambda fields: fields["int8_graphs"].update(encoder=fields["graphs"][PREDICTOR]),
            r"prompt_predictor\.onnx: inputs are image, embedding, but must be image",
        ),
    ],
)
def test_a_graph_that_is_not_what_it_must_be_is_refused(copy, change, reason):
    edit(copy, change)
    with pytest.raises(BundleError, match=reason):
        create_engine(load_bundle(copy), EngineOptions(precision="int8"))


@pytest.mark.parametrize("spoil", [Path.unlink, lambda file: file.write_bytes(b"another")])
def test_a_damaged_graph_is_refused_and_verify_looks_at_it_too(copy, spoil, aopsam, refused):
    whole = aopsam("models", "verify", copy)
    assert whole.code == 0 and whole.out.strip().endswith("verified")
    spoil(copy / INT8)
    with pytest.raises(BundleError, match=r"encoder\.int8\.onnx: (missing|sha256 is)"):
        create_engine(load_bundle(copy), EngineOptions(precision="int8"))
    assert INT8 in refused("models", "verify", str(copy))


def test_it_stays_as_large_as_it_was_free_to_be(tmp_path):
    """Axes of any size stay so, and the graph runs at another size than it was calibrated at."""
    source, target = tmp_path / "encoder.onnx", tmp_path / INT8
    onnx.save(deep_encoder(is_dynamic=True), str(source))
    write_int8(source, target, [{"image": image} for image in IMAGES])
    shape = onnx.load(str(target)).graph.input[0].type.tensor_type.shape
    assert [d.dim_param for d in shape.dim[2:]] == ["image_height", "image_width"]
    part = np.ascontiguousarray(IMAGES[0][:, :, :64, :96])
    np.testing.assert_allclose(run(target, part), run(source, part), atol=0.2)
    assert set(tmp_path.iterdir()) == {source, target}


def test_a_second_time_replaces_it(quantized, copy, tmp_path):
    others = tmp_path / "others"
    others.mkdir()
    write_rgb(others / "grey.png", np.full((90, 120, 3), 100, np.uint8))
    words = ["--data", str(others), "--threads", "1", "--out", str(copy)]
    assert main(["quantize", str(copy), *words]) == 0
    first, second = load_bundle(quantized), load_bundle(copy)
    assert second.provenance["int8"] == {"calibrated_on": "1 photographs"}
    assert second.int8_graphs["encoder"].read() != first.int8_graphs["encoder"].read()
    assert second.graphs["encoder"].read() == first.graphs["encoder"].read()


def test_a_folder_whose_name_is_not_utf_8(source, data, tmp_path):
    out = tmp_path / os.fsdecode(b"caf\xe9")
    assert main(["quantize", str(source), "--data", str(data), "--out", str(out)]) == 0
    assert load_bundle(out).int8_graphs.keys() == {"encoder"}


@pytest.mark.skipif(not hasattr(cv2, "videoio_registry"), reason="an OpenCV without videos")
def test_a_video_that_does_not_declare_its_length_is_taken_too(source, tmp_path):
    images = [cv2.imencode(".jpg", np.full((96, 128, 3), 20 * n, np.uint8))[1] for n in range(9)]
    (tmp_path / "drive.mjpeg").write_bytes(b"".join(image.tobytes() for image in images))
    out = tmp_path / "out"
    words = ["--data", str(tmp_path / "drive.mjpeg"), "--limit", "4", "--out", str(out)]
    assert main(["quantize", str(source), *words]) == 0
    assert load_bundle(out).provenance["int8"] == {"calibrated_on": "4 photographs"}


def test_too_far_from_32_bits_is_refused_and_nothing_written(source, tmp_path, monkeypatch):
    def write_other(path, target, images):
        onnx.save(tiny_bundle.with_last(deep_encoder(), "embedding", "Neg", {}), str(target))

    monkeypatch.setattr(quantization, "write_int8", write_other)
    with pytest.raises(VerificationError, match="encoder in int8: embedding differs"):
        quantization.quantize_bundle(load_bundle(source), tmp_path / "out", IMAGES, 1)
    assert list(tmp_path.iterdir()) == []


def test_pictures_that_cannot_be_read_are_left_out(source, tmp_path, refused, caplog):
    folder = write_images(tmp_path / "photographs", 2)
    (folder / "broken.jpg").write_bytes(b"no image")
    words = ["quantize", str(source), "--data", str(folder), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert "broken" in caplog.text
    for file in folder.glob("*.png"):
        file.unlink()
    assert refused(*words).endswith("none of the images can be read")


def test_wrong_arguments_are_one_clear_line(source, data, tmp_path, refused):
    full, out = tmp_path / "full", tmp_path / "out"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    shallow = write_deep_bundle(tmp_path / "shallow", layers=2)
    for words, reason in (
        (["nowhere", "--data", data], "model bundle 'nowhere' not found"),
        ([source, "--data", tmp_path / "none"], "no such folder, video or recording"),
        ([source, "--data", data, "--limit", "0"], "--limit must be at least 1"),
        ([source, "--data", data, "--threads", "-1"], "--threads must be from 0 to 256"),
        ([source, "--data", data, "--out", full], "holds other files"),
        ([shallow, "--data", data], "encoder.onnx: has no convolution that could run in 8 bits"),
    ):
        assert reason in refused("quantize", "--out", out, *words, at_once=True)
    assert not out.exists()
