"""Which engine is built when, and that no wrong one is ever used."""

import multiprocessing
import shutil
import sys

import numpy as np
import pytest

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.engines.tensorrt.api import Precision, TensorRt
from aopsam_ros.errors import BundleError, EngineError
from support import tiny_bundle
from support.gpu import Gpu, add_mixed_graphs, start_on_a_gpu
from support.stand_in.tensorrt import VERSIONS
from support.tiny_bundle import MAP, SIZE, edit, model_of, open_sides, write_tiny_bundle

GRAPHS = ["encoder", "prompt_predictor", "mask_decoder"]
OUTPUTS = ["embedding", "confidence_map", "low_res_logits"]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return load_bundle(add_mixed_graphs(write_tiny_bundle(tmp_path_factory.mktemp("m") / "mixed")))


@pytest.mark.parametrize(
    ("precision", "has_mixed", "names"),  # of the precisions that 8.6, 10 and 11 take
    [
        ("auto", False, ["CHOSEN_HALF", "CHOSEN_HALF", "FULL"]),
        ("fp16", False, ["CHOSEN_HALF", "CHOSEN_HALF", "FULL"]),
        ("auto", True, ["CHOSEN_HALF", "TYPED_HALF", "TYPED_HALF"]),
        ("fp32", True, ["FULL", "FULL", "FULL"]),
    ],
)
def test_the_best_precision_of_a_version(gpu, bundle, mixed, caplog, precision, has_mixed, names):
    name = names[VERSIONS.index(gpu.module.__version__)]
    found = gpu.start_and_stop(mixed if has_mixed else bundle, precision=precision)
    assert found == dict.fromkeys(GRAPHS, name)
    built = "full" if name == "FULL" else "half"
    assert gpu.builds == [(output, built) for output in OUTPUTS]
    is_told = "`aopsam export --mixed` writes them" in caplog.text
    assert is_told == (name == "FULL" and precision != "fp32")


def test_a_graph_without_a_mixed_form_is_computed_in_32_bits(tmp_path):
    gpu = Gpu("10.3.0", tmp_path / "engines")
    folder = add_mixed_graphs(write_tiny_bundle(tmp_path / "b"))
    edit(folder, lambda fields: fields["mixed_graphs"].pop("prompt_predictor"))
    found = gpu.start_and_stop(load_bundle(folder))
    assert found == {**dict.fromkeys(GRAPHS, "TYPED_HALF"), "prompt_predictor": "FULL"}


def test_one_graph_at_two_image_sizes_is_two_engines(modern_gpu, tmp_path):
    """With open sides the files are the same, byte by byte."""
    models = {name: open_sides(make()) for name, make in tiny_bundle.GRAPHS.items()}
    larger = {
        "image_size": 2 * SIZE, "embedding_shape": [1, 3, 2 * MAP, 2 * MAP],
        "confidence_map_size": 2 * MAP, "low_res_mask_size": 2 * MAP,
    }  # fmt: skip
    for name, sides in (("small", {}), ("large", larger)):
        modern_gpu.start_and_stop(load_bundle(write_tiny_bundle(tmp_path / name, models, **sides)))
    assert modern_gpu.builds == 2 * [(output, "half") for output in OUTPUTS]


def test_a_decoder_is_tuned_for_as_many_points_as_its_prompts_have(modern_gpu, tmp_path):
    for form, built in (("point", OUTPUTS), ("both", OUTPUTS[2:]), ("box", OUTPUTS[2:])):
        folder = write_tiny_bundle(tmp_path / form, defaults={"asf": {"prompt_form": form}})
        modern_gpu.builds.clear()
        modern_gpu.start_and_stop(load_bundle(folder))
        assert modern_gpu.builds == [(output, "half") for output in built]


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
def test_norms_sums_and_coordinates_stay_in_32_bits(tmp_path, version):
    gpu = Gpu(version, tmp_path)
    ones = np.ones(2, np.float32)
    model = model_of(
        "float[4, 2] point_coords, float[4, 2] embedding",
        "float[4, 2] out",
        """
        scaled = Mul(point_coords, scale)
        position = Sin(scaled)
        features = Mul(embedding, scale)
        normed = LayerNormalization(features, weight)
        shares = Softmax(normed)
        out = Add(shares, position)
        """,
        scale=ones,
        weight=ones,
    )
    trt = TensorRt(gpu.module)
    trt.build(model.SerializeToString(), Precision.CHOSEN_HALF, {}, {}, lambda share: None)
    assert gpu.faults.kept_full == [
        "Mul of scaled",
        "Sin of position",
        "LayerNormalization of normed",
        "Softmax of shares",
    ]


def test_engines_are_built_once_for_a_precision(gpu, bundle):
    first = gpu.start_and_stop(bundle)
    assert gpu.start_and_stop(bundle) == first
    assert len(gpu.builds) == 3
    gpu.start_and_stop(bundle, precision="fp32")
    assert gpu.start_and_stop(bundle) == first
    # TensorRT 11 computes this bundle in 32 bits in any case.
    assert len(gpu.builds) == (3 if "FULL" in first.values() else 6)


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
def test_wrong_16_bits_are_replaced_by_32_and_that_is_remembered(tmp_path, bundle, caplog, version):
    gpu = Gpu(version, tmp_path)
    gpu.faults.wrong_half = ("embedding",)
    precisions = gpu.start_and_stop(bundle)
    assert precisions == {**dict.fromkeys(GRAPHS, "CHOSEN_HALF"), "encoder": "FULL"}
    assert gpu.builds[:2] == [("embedding", "half"), ("embedding", "full")]
    assert "embedding holds values that are not finite; trying 32 bits" in caplog.text
    assert gpu.start_and_stop(bundle) == precisions
    assert len(gpu.builds) == 4


def test_wrong_32_bits_are_an_error_and_not_built_again(modern_gpu, bundle):
    modern_gpu.faults.wrong_half = modern_gpu.faults.wrong_full = ("low_res_logits",)
    with pytest.raises(EngineError, match=r"mask_decoder: TensorRT 10\.3\.0: low_res_logits"):
        modern_gpu.start(bundle)
    count = len(modern_gpu.builds)
    with pytest.raises(EngineError, match="builds no usable engine of it"):
        modern_gpu.start(bundle)
    assert len(modern_gpu.builds) == count


def test_a_build_that_fails_is_tried_again_at_the_next_start(modern_gpu, bundle):
    modern_gpu.faults.out_of_memory = True
    with pytest.raises(EngineError, match="cannot build the engine: Could not find any impl"):
        modern_gpu.start(bundle)
    modern_gpu.faults.out_of_memory = False
    assert modern_gpu.start_and_stop(bundle)["encoder"] == "CHOSEN_HALF"


@pytest.mark.parametrize(("version", "name"), [("8.6.1", b"Orin"), ("10.3.0", b"Thor")])
def test_another_version_or_gpu_builds_its_own(modern_gpu, bundle, version, name):
    modern_gpu.start_and_stop(bundle)
    other = Gpu(version, modern_gpu.cache.folder, name)
    other.start_and_stop(bundle)
    assert len(other.builds) == 3
    modern_gpu.start_and_stop(bundle)
    assert len(modern_gpu.builds) == 3


def test_a_graph_with_a_wrong_hash_is_never_built(modern_gpu, bundle, tmp_path):
    folder = shutil.copytree(bundle.folder, tmp_path / "hostile")
    with (folder / "encoder.onnx").open("ab") as file:
        file.write(b" ")
    with pytest.raises(BundleError, match=r"encoder\.onnx"):
        modern_gpu.start(load_bundle(folder))
    assert modern_gpu.builds == []


def test_a_graph_that_tensorrt_cannot_read_is_a_clear_error(modern_gpu):
    with pytest.raises(EngineError, match="cannot read the graph: Failed to parse the ONNX model"):
        TensorRt(modern_gpu.module).build(b"no graph", Precision.FULL, {}, {}, lambda share: None)


def test_a_tensorrt_that_is_too_old_is_refused(modern_gpu):
    del modern_gpu.module.IExecutionContext.execute_async_v3
    with pytest.raises(EngineError, match=r"TensorRT 10\.3\.0 is too old"):
        TensorRt(modern_gpu.module)


def test_two_processes_at_once_build_each_engine_once(tmp_path, bundle):
    context = multiprocessing.get_context("spawn")
    go, builds = context.Event(), context.Queue()
    arguments = (bundle.folder, tmp_path / "engines", go, builds)
    processes = [context.Process(target=start_on_a_gpu, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    go.set()
    counts = [builds.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert sum(counts) == 3


def test_auto_falls_back_and_says_why(modern_gpu, bundle, monkeypatch, caplog):
    caplog.set_level("INFO")
    modern_gpu.install(monkeypatch)
    modern_gpu.faults.out_of_memory = True
    engine = create_engine(bundle)
    assert engine.device == "cpu"
    (record,) = [record for record in caplog.records if record.name.endswith(".registry")]
    assert record.levelname == "WARNING"  # the GPU stays idle
    said = f"engine {engine.name} on cpu (auto; tensorrt: encoder: TensorRT 10.3.0"
    assert said in record.message
    engine.close()


def test_a_broken_tensorrt_is_a_clear_error(modern_gpu, bundle, monkeypatch):
    modern_gpu.install(monkeypatch)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match="TensorRT cannot be imported"):
        create_engine(bundle, EngineOptions(engine="tensorrt"))
