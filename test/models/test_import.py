"""`aopsam import`: encoders and decoders of the kinds that others publish, as a bundle."""

import numpy as np
import onnx
import pytest

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.cli import main
from aopsam_ros.engines.base import EngineOptions, all_logits
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.segmentation.segmenter import Segmenter
from support.gpu import Gpu
from support.stand_in.tensorrt import VERSIONS
from support.tiny_bundle import model_of, write_tiny_bundle

SIZE, SIDE = 64, 4
NORMALISED = f"float[1, 3, {SIZE}, {SIZE}] image"
RAW = "float[height, width, 3] input_image"
# The mean colour of each cell; samexporter's takes an image as it is, and pads it itself.
POOL = "AveragePool <kernel_shape = [16, 16], strides = [16, 16]>"
ENCODER = f"image_embeddings = {POOL}(image)"
RAW_ENCODER = f"""
    x = Sub(input_image, mean) y = Div(x, std) z = Transpose <perm = [2, 0, 1]>(y)
    batch = Reshape(z, shape) image_embeddings = {POOL}(batch)
"""
# A decoder whose four logits say what it was given: the sum of the points' x, of the labels, how
# many points there are, and the mask to start from; its predicted IoU is the mean embedding.
DECODER = """
    x = Gather <axis = 2>(point_coords, first) sum_x = ReduceSum <keepdims = 0>(x)
    sum_labels = ReduceSum <keepdims = 0>(point_labels)
    size = Shape(point_labels) all = ReduceProd <keepdims = 0>(size) count = Cast <to = 1>(all)
    started = Mul(mask_input, has_mask_input) mask = ReduceMax <keepdims = 0>(started)
    a = Reshape(sum_x, one) b = Reshape(sum_labels, one) c = Reshape(count, one)
    d = Reshape(mask, one) given = Concat <axis = 0>(a, b, c, d) column = Reshape(given, four)
    low_res_masks = Expand(column, masks)
    mean = ReduceMean <keepdims = 0>(image_embeddings)
    same = Reshape(mean, one) iou = Expand(same, ious) iou_predictions = Identity(iou)
"""
# What SAM's exporter appends with --return-single-mask; graphs of opset 12 are about, too.
CHOICE = """
    column_of = Flatten <axis = 2>(every_mask) best = ArgMax <axis = 1, keepdims = 0>(every_iou)
    row = Gather <axis = 0>(column_of, best) low_res_masks = Reshape(row, single)
    flat_iou = Flatten <axis = 0>(every_iou) iou_row = Gather <axis = 1>(flat_iou, best)
    iou_predictions = Reshape(iou_row, single_iou)
"""
CHOICE_SHAPES = {"single": [1, 1, 16, 16], "single_iou": [1, 1]}
DECODER_INPUTS = (
    f"float[1, 3, {SIDE}, {SIDE}] image_embeddings, float[1, points, 2] point_coords,"
    " float[1, points] point_labels, float[1, 1, 16, 16] mask_input, float[1] has_mask_input"
)
DECODER_OUTPUTS = "float[a, b, c, d] low_res_masks, float[e, f] iou_predictions"
CONSTANTS = {
    "first": 0, "one": [1], "four": [1, 4, 1, 1], "masks": [1, 4, 16, 16], "ious": [1, 4],
}  # fmt: skip


def write(path, inputs, outputs, text, **constants):
    onnx.save(model_of(inputs, outputs, text, **constants), str(path))
    return path


@pytest.fixture(params=["all masks", "the best, opset 12"])
def decoder(request, tmp_path):
    path = tmp_path / "d.onnx"
    if request.param == "all masks":
        return write(path, DECODER_INPUTS, DECODER_OUTPUTS, DECODER, **CONSTANTS)
    every = DECODER.replace("low_res_masks", "every_mask").replace("iou_predictions", "every_iou")
    constants = CONSTANTS | CHOICE_SHAPES
    write(path, DECODER_INPUTS, DECODER_OUTPUTS, every + CHOICE, **constants)
    model = onnx.load(str(path))
    model.opset_import[0].version = 12
    onnx.save(model, str(path))
    return path


@pytest.fixture(params=["normalised", "raw"])
def encoder(request, tmp_path):
    path, output = tmp_path / "e.onnx", f"float[1, 3, {SIDE}, {SIDE}] image_embeddings"
    if request.param == "normalised":
        return write(path, NORMALISED, output, ENCODER)
    mean, std = np.float32([10.0, 20.0, 30.0]), np.float32([2.0, 4.0, 8.0])
    shape = [1, 3, SIZE, SIZE]
    return write(path, RAW, output, RAW_ENCODER, mean=mean, std=std, shape=shape)


def run_import(encoder, decoder, out, *more):
    words = ["import", "--encoder", encoder, "--decoder", decoder, "--out", out]
    given = ["--mean", 10, 20, 30, "--std", 2, 4, 8, "--image-size", SIZE, *more]
    return main([str(word) for word in [*words, *given]])


@pytest.fixture(params=["onnxruntime", "tensorrt"])
def make_engine(request, tmp_path):
    """What loads a bundle: ONNX Runtime, or TensorRT's stand-in on its own GPU."""
    if request.param == "onnxruntime":
        return create_engine
    gpu = Gpu(VERSIONS[-1], tmp_path / "engines")
    return lambda bundle, options, on_progress: gpu.start(bundle, "fp32", on_progress)


def test_each_prompt_of_a_batch_reaches_the_decoder_alone(encoder, decoder, tmp_path, make_engine):
    assert run_import(encoder, decoder, tmp_path / "b", "--licence", "MIT") == 0
    bundle = load_bundle(tmp_path / "b")
    assert (bundle.name, bundle.licence, bundle.low_res_mask_size) == ("b", "MIT", 16)
    assert bundle.prompter.startswith("nano ")  # that nobody trained a predictor for it
    assert bundle.provenance["imported"]["encoder"]["file"] == "e.onnx"
    rgb = np.full((SIZE, SIZE, 3), (30, 20, 14), np.uint8)  # normalised: 10, 0, -2
    points = np.array([[[1.0, 2], [0, 0]], [[3, 4], [5, 6]], [[7, 8], [9, 9]]])
    labels = np.array([[1.0, -1], [1, 0], [2, 3]])
    engine = EngineOptions(engine="onnxruntime")
    with Segmenter.from_bundle(
        bundle.folder, "grid1", engine, make_engine=make_engine
    ) as segmenter:
        assert segmenter.engine.num_masks == 4 and segmenter.engine.accepts_mask_input
        frame = segmenter.encode(rgb)
        logits, iou = segmenter.decode(frame, points, labels)
        start = np.full((3, 1, 16, 16), 5.0, np.float32)
        prompts = points.astype(np.float32), labels.astype(np.float32)
        continued = all_logits(segmenter.engine.decode(frame.handle, *prompts, start))
    # Sum of x, sum of labels, number of points: those of a prompt, and the end of one without box.
    assert logits[:, :3, 0, 0].tolist() == [[1, 0, 2], [8, 0, 3], [16, 5, 2]]
    assert np.allclose(iou, (10 + 0 - 2) / 3, atol=1e-5) and not logits[:, 3].any()
    assert (continued[:, 3] == 5.0).all()


def test_fetched_graphs_are_imported_by_name(encoder, decoder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, path in (("nanosam_encoder", encoder), ("nanosam_decoder", decoder)):
        assert main(["models", "fetch", name, "--from", str(path)]) == 0
    assert run_import("nanosam_encoder", "nanosam_decoder", tmp_path / "b") == 0
    bundle = load_bundle(tmp_path / "b")
    assert bundle.licence == "Apache-2.0"
    assert bundle.provenance["imported"]["encoder"]["file"] == "resnet18_image_encoder.onnx"


def test_the_finer_maps_of_sam_2_travel_in_the_embedding(tmp_path):
    outputs = (
        "float[1, 2, 16, 16] high_res_feats_0, float[1, 1, 8, 8] high_res_feats_1,"
        f" float[1, 3, {SIDE}, {SIDE}] image_embed"
    )
    coarse = ENCODER.replace("image_embeddings", "image_embed")
    finer = coarse.replace("16", "8").replace("image_embed", "every8")
    finest = coarse.replace("16", "4").replace("image_embed", "every4")
    text = f"""
        {coarse} {finer} {finest}
        high_res_feats_1 = Gather <axis = 1>(every8, one_channel)
        high_res_feats_0 = Gather <axis = 1>(every4, two_channels)
    """
    channels = {"one_channel": [2], "two_channels": [0, 1]}
    encoder = write(tmp_path / "e.onnx", NORMALISED, outputs, text, **channels)
    inputs = DECODER_INPUTS.replace("image_embeddings", "image_embed")
    inputs += ", float[1, 2, 16, 16] high_res_feats_0, float[1, 1, 8, 8] high_res_feats_1"
    text = """
        whole = Resize <mode = "nearest">(high_res_feats_1, , scales)
        added = Add(high_res_feats_0, whole) low_res_masks = Concat <axis = 1>(added, whole)
        mean = ReduceMean <axes = [2, 3], keepdims = 0>(image_embed)
        iou_predictions = Identity(mean)
    """
    scales = np.float32([1, 1, 2, 2])
    decoder = write(tmp_path / "d.onnx", inputs, DECODER_OUTPUTS, text, scales=scales)
    assert run_import(encoder, decoder, tmp_path / "b") == 0
    bundle = load_bundle(tmp_path / "b")
    assert bundle.resize == "stretch" and bundle.similarity_channels == 3
    rgb = np.random.default_rng(0).integers(0, 255, (32, SIZE, 3)).astype(np.uint8)
    with Segmenter.from_bundle(bundle.folder, "grid1", "onnxruntime") as segmenter:
        frame = segmenter.encode(rgb)
        logits, _ = segmenter.decode(frame, np.ones((2, 1, 2)), np.ones((2, 1)))
        image = frame.image.tensor[0]
    assert frame.geometry.valid == (SIZE, SIZE)
    every4 = image.reshape(3, 16, 4, 16, 4).mean((2, 4))
    every8 = image.reshape(3, 8, 8, 8, 8).mean((2, 4)).repeat(2, 1).repeat(2, 2)
    expected = np.stack([every4[0] + every8[2], every4[1] + every8[2], every8[2]])
    assert np.allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda e, d: (d, d), "takes one image, not"),
        (lambda e, d: (e, e), "not a decoder for this encoder"),
        (lambda e, d: (e, e.with_name("nothing")), "no such file"),
        (lambda e, d: (e, e.with_name("text")), "not a readable ONNX file"),
        (lambda e, d: (e, e.with_name("garbled")), "not a readable ONNX file"),
        (lambda e, d: (e, e.with_name("single")), "gives 1 masks a prompt"),
        (lambda e, d: (e, e.with_name("old")), "of opset 4, export it with 13 or newer"),
        (lambda e, d: (e.with_name("open"), d), "not how many channels high_res_feats_1 has: []"),
    ],
)
def test_what_it_refuses(encoder, decoder, tmp_path, capsys, change, reason):
    (tmp_path / "text").write_text("<html>")
    garbled = decoder.read_bytes().replace(b"sum_x", b"sum\xff\xff")
    (tmp_path / "garbled").write_bytes(garbled)
    constants = {**CONSTANTS, "four": [1, 1, 4, 1], "masks": [1, 1, 4, 16], "ious": [1, 1]}
    write(tmp_path / "single", DECODER_INPUTS, DECODER_OUTPUTS, DECODER, **constants)
    old = onnx.load(str(decoder))
    old.opset_import[0].version = 4
    onnx.save(old, str(tmp_path / "old"))
    fine = onnx.load(str(encoder))
    fine.graph.output.add().name = "high_res_feats_1"  # of no size
    onnx.save(fine, str(tmp_path / "open"))
    assert run_import(*change(encoder, decoder), tmp_path / "b") == 2
    assert reason in capsys.readouterr().err and not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [  # the first: SAM ViT-H's encoder as others export it, its weights in files of their own
        (ValueError("exceeds maximum protobuf size"), "encoder.onnx: more than 2 GB, which one"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_a_graph_that_cannot_be_written(
    encoder, decoder, tmp_path, capsys, monkeypatch, error, reason
):
    def refuse(*_):
        raise error

    monkeypatch.setattr(onnx, "save", refuse)
    assert run_import(encoder, decoder, tmp_path / "b") == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_prompter_without_a_predictor_is_refused_first(encoder, decoder, tmp_path, capsys):
    assert run_import(encoder, decoder, tmp_path / "other", "--prompter", "none") == 0
    assert run_import(encoder, decoder, tmp_path / "b", "--prompter", tmp_path / "other") == 2
    assert "other: has no prompt predictor" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_prompter_that_fails_late_leaves_what_was_there(encoder, decoder, tmp_path, capsys):
    damaged = write_tiny_bundle(tmp_path / "damaged")
    (damaged / "encoder.onnx").write_bytes(b"")
    words = ["--prompter", damaged]
    assert run_import(encoder, decoder, tmp_path / "b", *words) == 2
    assert "encoder.onnx" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
    assert run_import(encoder, decoder, tmp_path / "b", "--prompter", "none") == 0
    before = (tmp_path / "b" / "bundle.yaml").read_bytes()
    assert run_import(encoder, decoder, tmp_path / "b", "--version", "2", *words) == 2
    assert (tmp_path / "b" / "bundle.yaml").read_bytes() == before


@pytest.mark.parametrize("size", ["-64", "0", "100000000"])
def test_an_image_size_that_no_bundle_has_is_refused(encoder, decoder, tmp_path, capsys, size):
    words = ["--image-size", size]
    assert run_import(encoder, decoder, tmp_path / "b", *words) == 2
    assert "--image-size must be from 32 to 4096" in capsys.readouterr().err


def test_a_wrong_number_is_the_new_bundles_not_of_a_folder_that_is_gone(
    encoder, decoder, tmp_path, capsys
):
    assert run_import(encoder, decoder, tmp_path / "b", "--std", 0, 0, 0) == 2
    assert f"error: {tmp_path.resolve()}/b/bundle.yaml: std must be" in capsys.readouterr().err
