"""A host's prompts from another model: the composed graph, its bundle, and every engine."""

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnxruntime
import pytest
import yaml

onnx = pytest.importorskip("onnx")

from aopsam_ros.bundle.loading import load_bundle  # noqa: E402
from aopsam_ros.engines.base import EngineOptions  # noqa: E402
from aopsam_ros.engines.onnxruntime import OnnxRuntimeEngine  # noqa: E402
from aopsam_ros.errors import BundleError  # noqa: E402
from aopsam_ros.geometry import preprocess  # noqa: E402
from aopsam_ros.masks.selection import ScoreWeights  # noqa: E402
from aopsam_ros.models.bundle_files import describe_graphs  # noqa: E402
from aopsam_ros.models.composed_predictor import compose_predictor  # noqa: E402
from aopsam_ros.models.mixed_precision import write_mixed  # noqa: E402
from aopsam_ros.models.prompter import add_prompter  # noqa: E402
from aopsam_ros.prompting.confidence_map_sampling import sample  # noqa: E402
from aopsam_ros.segmentation.segmenter import Segmenter  # noqa: E402
from support import golden_masks, tiny_bundle  # noqa: E402
from support.tiny_bundle import IMAGE, edit, image_predictor, write_tiny_bundle  # noqa: E402

NANO = f"nano {load_bundle('nano').version}"
OPTIONS = EngineOptions(threads=1, precision="fp32")
JETSON = Path(__file__).parents[2] / "config" / "jetson.yaml"
COFFEE = golden_masks.read_rgb("coffee.jpg")  # 400 x 600
SHAPES = {
    "square": golden_masks.read_rgb("astronaut.jpg"),
    "wide": COFFEE,
    "high": np.ascontiguousarray(COFFEE[:, 100:330]),
    "dark": golden_masks.read_rgb("galaxies.jpg"),  # 480 x 640, mostly black
}
# Hosts as the field has them: SAM's size with nano's colours, and others.
HOSTS = {
    "sam": {"image_size": 1024, "size_divisibility": 16},
    "squares only": {"image_size": 1024, "size_divisibility": 0},
    "zero is black": {
        "image_size": 1024,
        "size_divisibility": 16,
        "mean": (0.0, 0.0, 0.0),
        "std": (255.0, 255.0, 255.0),
    },
    "three halves": {"image_size": 768, "size_divisibility": 16},
}


@pytest.fixture(scope="module")
def nano():
    return OnnxRuntimeEngine(load_bundle("nano"), OPTIONS)


def session_of(prompter, host):
    graph = compose_predictor(prompter, host).SerializeToString()
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module", params=HOSTS)
def composed(request):
    """Nano's predictor behind the images of a host, as a function."""
    host = dataclasses.replace(load_bundle("nano"), **HOSTS[request.param])
    session = session_of(load_bundle("nano"), host)

    def sides_given(image, least):
        multiple = host.size_divisibility if least else host.image_size
        return [-(-side // multiple) * multiple for side in image.geometry.valid]

    def predict(rgb, least=False):
        image = preprocess(rgb, host.image_size, host.mean, host.std)
        rows, columns = sides_given(image, least)
        part = np.ascontiguousarray(image.tensor[:, :, :rows, :columns])
        (found,) = session.run(["confidence_map"], {"image": part})
        cells = [-(-side * 128 // host.image_size) for side in (rows, columns)]
        assert found.shape == (1, 1, *cells)
        return found[0, 0]

    def seen(rgb, least):
        """The host's square, resized once more and normalised for nano; its padding is zero."""
        image, bundle = preprocess(rgb, host.image_size, host.mean, host.std), load_bundle("nano")
        large = image.tensor[0].transpose(1, 2, 0) * np.float32(host.std) + np.float32(host.mean)
        size, is_multiple = bundle.image_size, host.image_size % bundle.image_size == 0
        how = cv2.INTER_AREA if is_multiple else cv2.INTER_LINEAR
        small = cv2.resize(np.ascontiguousarray(large), (size, size), interpolation=how)
        small = (small - np.float32(bundle.mean)) / np.float32(bundle.std)
        given = sides_given(image, least)  # of the host's graph; a last part of a cell is none
        rows, columns = (
            min(-(-side * size // host.image_size), whole * size // host.image_size)
            for side, whole in zip(image.geometry.valid, given, strict=True)
        )
        small[rows:], small[:, columns:] = 0.0, 0.0
        return np.ascontiguousarray(small.transpose(2, 0, 1)[None])

    return SimpleNamespace(predict=predict, seen=seen, open=bool(host.size_divisibility))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("least", [False, True])
def test_the_map_is_that_of_nano_on_what_the_host_sees(nano, composed, shape, least):
    """Resized twice, a little else than the image; padding left out is left out for nano, too."""
    if least and not composed.open:
        pytest.skip("the host takes squares only")
    rgb, bundle = SHAPES[shape], load_bundle("nano")
    image = preprocess(rgb, bundle.image_size, bundle.mean, bundle.std)
    twice = composed.seen(rgb, least)
    rows, columns = image.geometry.valid_cells(128)

    def by_itself(tensor):
        handle = nano.encode(tensor, image.geometry.valid if least else None)
        return nano.predict(tensor, handle).confidence_map[:rows, :columns]

    found, wanted = composed.predict(rgb, least)[:rows, :columns], by_itself(twice)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.abs(by_itself(image.tensor) - found).mean() < 0.02
    assert len(sample(found, 2.0, 0.15, 4)[0]) >= 5


@pytest.mark.parametrize(
    "engine", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.needs("openvino"))]
)
def test_nano_composed_with_itself_gives_the_same_masks(tmp_path, engine):
    bundle, options = load_bundle("nano"), dataclasses.replace(OPTIONS, engine=engine)
    add_prompter(bundle, bundle, tmp_path / "b")
    for changes in ({}, {**golden_masks.everything_options(), "encoder.padding": "least"}):
        results = []
        for model in ("nano", tmp_path / "b"):
            with Segmenter.from_bundle(model, engine=options) as segmenter:
                results.append(segmenter.segment(COFFEE, segmenter.options.updated(changes)))
        assert results[0].prompts == results[1].prompts
        runs = [[mask.counts.tolist() for mask in result.masks] for result in results]
        assert runs[0] == runs[1] and len(runs[0]) > (20 if changes else 2)


def test_every_engine_runs_it(bare, tmp_path, start):
    add_prompter(load_bundle(bare), load_bundle("nano"), tmp_path / "b")
    bundle = load_bundle(tmp_path / "b")
    engines = OnnxRuntimeEngine(bundle, OPTIONS), start(bundle)
    maps = [each.predict(IMAGE, each.encode(IMAGE)).confidence_map for each in engines]
    assert maps[0].shape == (128, 128) and maps[0].std() > 0
    np.testing.assert_allclose(*maps, atol=1e-3)


def test_add_prompter_changes_a_bundle_where_it_lies(aopsam, bare, caplog):
    edit(bare, lambda fields: fields["defaults"]["asf"].update(filtering="paper"))
    result = aopsam("add-prompter", bare)
    assert result.code == 0
    assert result.out.splitlines() == [f"prompts from the predictor of {NANO}", str(bare)]
    made = yaml.safe_load((bare / "bundle.yaml").read_text())
    assert (made["predictor_inputs"], made["prompter"]) == (["image"], NANO)
    assert made["provenance"]["predictor"]["licence"] == "Apache-2.0"
    asf = load_bundle(bare).options().asf
    # What the host says stays, the rest of sampling is nano's, filtering is the host's.
    assert (asf.confidence_threshold, asf.sampling, asf.filtering) == (0.3, "peaks", "paper")
    with caplog.at_level("INFO", "aopsam_ros"), Segmenter.from_bundle(bare, engine=OPTIONS) as it:
        assert it.segment(COFFEE).prompt_source == "predictor"
    assert f"prompts from predictor of {NANO} (auto)" in caplog.text
    assert aopsam("add-prompter", bare).code == 0  # it may be done again, as with a newer nano


def test_a_predictor_of_its_own_is_not_lost(aopsam, refused, tiny_folder, tmp_path):
    assert "has a prompt predictor of its own" in refused("add-prompter", tiny_folder)
    assert aopsam("add-prompter", tiny_folder, "--out", tmp_path / "b").code == 0
    bundle = load_bundle(tmp_path / "b")
    assert bundle.prompter == NANO and not load_bundle(tiny_folder).prompter
    assert bundle.options().asf.min_spacing == load_bundle("nano").options().asf.min_spacing


def test_scores_fitted_to_a_predictor_go_with_it(aopsam, tiny_folder, bare, tmp_path):
    weights = {"intercept": -1.0, "confidence": 2.0}
    for folder in (tiny_folder, bare):
        edit(folder, lambda fields: fields.update(score_weights=weights))
    result = aopsam("add-prompter", tiny_folder, "--out", tmp_path / "b")
    assert "masks are ranked by predicted IoU until `aopsam calibrate`" in result.out
    assert load_bundle(tmp_path / "b").score_weights is None
    # The same predictor once more: what was fitted to it stays.
    edit(tmp_path / "b", lambda fields: fields.update(score_weights=weights))
    result = aopsam("add-prompter", tmp_path / "b")
    assert result.code == 0 and "predicted IoU" not in result.out
    assert load_bundle(tmp_path / "b").score_weights is not None
    assert aopsam("add-prompter", bare).code == 0  # there was no predictor to replace
    assert load_bundle(bare).score_weights is not None


@pytest.mark.parametrize(
    ("prompter", "reason"),
    [
        ("bare", "has no prompt predictor"),
        ("altered", "is damaged"),
        ("opset", "cannot be composed"),
        ("no ONNX", "encoder.onnx: not a readable ONNX file"),
        ("no shape", "predictor cannot be composed: Field 'shape'"),
        ("other file", "encoder.onnx: its weights are in another file"),
    ],
)
def test_a_prompter_that_is_none_is_refused(bare, tiny_folder, tmp_path, prompter, reason):
    folder = bare
    if prompter != "bare":
        encoder, predictor = tiny_bundle.encoder(), tiny_bundle.prompt_predictor()
        if prompter == "no ONNX":
            encoder = SimpleNamespace(SerializeToString=lambda: b"no ONNX")
        if prompter == "no shape":
            predictor.graph.output[0].type.tensor_type.ClearField("shape")
        if prompter == "other file":
            encoder.graph.initializer[0].external_data.add(key="location", value="x")
        if prompter == "opset":  # another version of ONNX's operators than the predictor's
            encoder.opset_import[0].version = 16
        graphs = {"encoder": encoder, "prompt_predictor": predictor}
        folder = write_tiny_bundle(tmp_path / "p", graphs)
        if prompter == "altered":
            (folder / "prompt_predictor.onnx").write_bytes(b"else")
    before = sorted(path.name for path in bare.iterdir())
    with pytest.raises(BundleError, match=reason):
        add_prompter(load_bundle(bare), load_bundle(folder), bare)
    assert sorted(path.name for path in bare.iterdir()) == before


def test_a_prompter_for_squares_only_serves_a_host_of_any_sides(tmp_path):
    """The image is padded for it, and its map cut to the host's area."""
    sizes = {"size_divisibility": 32, "image_size": 256}
    host = dataclasses.replace(load_bundle("nano"), **sizes, mean=(9.0,) * 3, std=(9.0,) * 3)
    prompter = load_bundle(write_tiny_bundle(tmp_path / "p"))
    session = session_of(prompter, host)
    rgb = np.zeros((128, 256, 3), np.uint8)
    rgb[32:64, 128:192, 0] = 255
    image = preprocess(rgb, 256, host.mean, host.std)
    (found,) = session.run(None, {"image": np.ascontiguousarray(image.tensor[:, :, :128])})
    assert found.shape == (1, 1, 32, 64)
    red = np.zeros((32, 64), bool)
    red[8:16, 32:48] = True
    np.testing.assert_allclose(found[0, 0][red], 1 / (1 + np.exp(-127.5 / 32)), atol=1e-4)
    np.testing.assert_allclose(found[0, 0][~red], 1 / (1 + np.exp(127.5 / 32)), atol=1e-4)


def test_extents_come_along_from_a_predictor_with_eyes_of_its_own(bare, tmp_path):
    """Its encoder is left out. The host's sides are those of the prompter: nothing is resized."""
    models = {"prompt_predictor": image_predictor()}
    folder = write_tiny_bundle(tmp_path / "p", models, predictor_inputs=["image"])
    edit(bare, lambda fields: fields.update(std=[2 * tiny_bundle.STD] * 3))
    add_prompter(load_bundle(bare), load_bundle(folder), bare)
    found, wanted = (OnnxRuntimeEngine(load_bundle(each), OPTIONS) for each in (bare, folder))
    maps = wanted.predict(IMAGE, wanted.encode(IMAGE))
    half = found.predict(IMAGE / 2, found.encode(IMAGE / 2))  # the same pixels for that host
    np.testing.assert_allclose(half.extent_map, maps.extent_map, atol=1e-5)
    np.testing.assert_allclose(half.confidence_map, maps.confidence_map, atol=1e-5)


def test_mixed_precision_goes_along(tmp_path, bare):
    """Where the host's graphs are there in 16 bits, so is the new one."""
    for name in ("encoder", "mask_decoder"):
        write_mixed(bare / f"{name}.onnx", bare / f"{name}.mixed.onnx")
    graphs = describe_graphs(bare, ["encoder.mixed.onnx", "mask_decoder.mixed.onnx"])
    edit(bare, lambda fields: fields.update(mixed_graphs=graphs))
    add_prompter(load_bundle(bare), load_bundle("nano"), bare)
    bundle = load_bundle(bare)
    assert set(bundle.mixed_graphs) == set(bundle.graphs)
    full, half = (
        kind["prompt_predictor"].path.stat().st_size
        for kind in (bundle.graphs, bundle.mixed_graphs)
    )
    assert half <= full


def as_sam(folder, **changes):
    """Let a host say what SAM's models do: least predicted IoU and stability, nothing else."""
    mask = {"predicted_iou_threshold": 0.88, "stability_threshold": 0.95, **changes}
    edit(folder, lambda fields: fields["defaults"].update(asf={}, mask=mask, grid=mask))


def test_a_model_at_sams_thresholds_takes_what_suits_nanos_prompts(bare, aopsam):
    """Measured with MobileSAM's architecture: docs/evaluation.md."""
    as_sam(bare)
    assert aopsam("add-prompter", bare).code == 0
    suited = yaml.safe_load((load_bundle("nano").folder / "bundle.yaml").read_text())["hosts"]
    made = load_bundle(bare)
    assert made.score_weights == ScoreWeights(**suited["score_weights"])
    options = made.options("predictor")
    assert options.asf.prompt_form == "both" and options.asf.filtering == "none"
    assert (options.mask.predicted_iou_threshold, options.mask.candidates) == (0.0, "best")
    assert options.mask.score_threshold == suited["predictor"]["score_threshold"] > 0
    # Other prompts have no extents, and SAM's thresholds as before.
    for group in ("grid", "boxes", "box_centres", "clusters"):
        other = made.options(group).mask
        assert (other.predicted_iou_threshold, other.stability_threshold) == (0.88, 0.95)
        assert other.score_threshold == 0.0
    with Segmenter.from_bundle(bare, engine=OPTIONS) as segmenter:
        assert segmenter.options == options
    # The parameter file for a MobileSAM shows them.
    said = re.findall(r"^    # ((?:asf|mask)\.\w+): +(\S+)", JETSON.read_text(), re.MULTILINE)
    flat = options.flat()
    assert {name: yaml.safe_load(value) for name, value in said} == {n: flat[n] for n, _ in said}
    assert len(said) >= 14


@pytest.mark.parametrize("changes", [{"predicted_iou_threshold": 0.7}, {"stability_threshold": 0}])
def test_thresholds_that_somebody_chose_stay(bare, changes):
    as_sam(bare, **changes)
    add_prompter(load_bundle(bare), load_bundle("nano"), bare)
    made = load_bundle(bare)
    assert made.score_weights is None and "predictor" not in made.defaults
    mask = made.options("predictor").mask
    assert all(getattr(mask, name) == value for name, value in changes.items())


def test_what_was_chosen_for_the_same_prompts_stays(bare):
    as_sam(bare)
    nano = load_bundle("nano")
    add_prompter(load_bundle(bare), nano, bare)
    own = dict.fromkeys(("intercept", "predicted_iou", "stability", "confidence", "extents"), 0.5)

    def choose(fields):
        fields.update(score_weights=own)
        fields["defaults"]["predictor"]["score_threshold"] = 0.6

    edit(bare, choose)
    add_prompter(load_bundle(bare), nano, bare)
    made = load_bundle(bare)
    assert made.score_weights == ScoreWeights(**own)
    assert made.options("predictor").mask.score_threshold == 0.6


def test_what_suits_a_prompter_goes_with_it(bare, tmp_path):
    as_sam(bare)
    add_prompter(load_bundle(bare), load_bundle("nano"), bare)
    other = write_tiny_bundle(tmp_path / "other")
    add_prompter(load_bundle(bare), load_bundle(other), bare)
    made = load_bundle(bare)
    assert made.score_weights is None and "predictor" not in made.defaults
    assert made.options("predictor").mask.predicted_iou_threshold == 0.88
    asf, usual = made.options("predictor").asf, load_bundle(other).options("predictor").asf
    assert asf.prompt_form == usual.prompt_form and asf.filtering == usual.filtering


@pytest.mark.parametrize("said", [5, [], {"asf": {}}, {"asf": {}, "predictor": 1}])
def test_a_prompter_that_says_of_hosts_what_cannot_be_is_refused(bare, tmp_path, said):
    as_sam(bare)
    other = write_tiny_bundle(tmp_path / "other", hosts=said)
    before = (bare / "bundle.yaml").read_bytes()
    with pytest.raises(BundleError, match=r"bundle\.yaml: hosts must have asf, predictor, score_w"):
        add_prompter(load_bundle(bare), load_bundle(other), bare)
    assert (bare / "bundle.yaml").read_bytes() == before
