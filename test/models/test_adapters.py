"""Adapters: the authors' modules as our graphs, held by what their own code answered."""

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from aopsam_ros.bundle.loading import load_bundle  # noqa: E402
from aopsam_ros.cli import main  # noqa: E402
from aopsam_ros.errors import OptionError  # noqa: E402
from aopsam_ros.models.adapters.attention import with_attention  # noqa: E402
from aopsam_ros.models.adapters.table import ARCHITECTURES  # noqa: E402
from aopsam_ros.models.export import sam_parts  # noqa: E402
from aopsam_ros.models.mobile_sam.mask_decoder import MASKS  # noqa: E402
from aopsam_ros.models.mobile_sam.model import MobileSam, PointDecoder, Sam  # noqa: E402
from aopsam_ros.segmentation.segmenter import Segmenter  # noqa: E402
from aopsam_ros.weights.known import KNOWN  # noqa: E402
from support.authors import adapter_cases as authors  # noqa: E402
from support.authors import mobile_sam_cases as cases  # noqa: E402
from support.authors import sam2_cases as sam2  # noqa: E402
from support.authors.adapter_cases import SmallEncoder  # noqa: E402
from support.authors.efficient_sam import EfficientSam  # noqa: E402
from support.authors.sam2_modules import MaskDecoder, PromptEncoder, Sam2  # noqa: E402

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@torch.no_grad()
@pytest.mark.parametrize("has_mask", [0.0, 1.0])
def test_sams_decoder_gives_four_masks_and_takes_one_to_start_from(has_mask):
    """Against the stored answers of the authors' prompt encoder and mask decoder."""
    model = cases.load_random_weights(MobileSam())
    decoder = PointDecoder(model).eval()
    coords, labels, _ = cases.PROMPTS["one_point"]
    mask = cases.tensor("mask", (3, 1, 256, 256), -10.0, 10.0)
    found = decoder(cases.embedding(), coords, labels, mask, torch.full((3,), has_mask))
    name = "masked" if has_mask else "one_point"
    with np.load(cases.REFERENCE) as stored:
        for part, answer in zip(("logits", "iou"), found, strict=True):
            expected = stored[f"{name}_{part}"]
            np.testing.assert_allclose(cases.sampled(f"{name}_{part}", answer), expected, **CLOSE)


@pytest.fixture
def export(tmp_path, monkeypatch):
    """Export small models of random weights by the adapters, whose authors' code stands in here."""
    from aopsam_ros.models.adapters import efficient_sam, sam
    from aopsam_ros.models.adapters import sam2 as sam2_adapter

    def run(architecture):
        model = authors.with_random_weights(make[architecture]())
        state = {"edge_sam": model.state_dict()}.get(architecture, {"model": model.state_dict()})
        others = {"rpn_head.conv.weight": torch.zeros(1)}  # left out
        torch.save({**others, **state}, tmp_path / "x.pth")
        words = ["--architecture", architecture, "--checkpoint", str(tmp_path / "x.pth")]
        out = tmp_path / architecture
        assert main(["export", *words, "--source", str(tmp_path), "--out", str(out)]) == 0
        return load_bundle(out)

    def rep_vit(arch, img_size, fuse, upsample_mode):
        assert (arch, img_size, fuse, upsample_mode) == ("m1", authors.SIZE, True, "bicubic")
        return SmallEncoder()

    def build_efficient_sam(encoder_patch_embed_dim, encoder_num_heads):
        assert (encoder_patch_embed_dim, encoder_num_heads) == (192, 3)
        return EfficientSam(SmallEncoder())

    def create_model(name, pretrained):
        assert name == "repvit_m1" and not pretrained  # nothing is fetched

    def build_sam2(config_file, ckpt_path, device):
        assert ckpt_path is None and device == "cpu"
        if config_file == "edgetam.yaml":
            networks.create_model("repvit_m1", pretrained=True)
        else:
            assert config_file == "configs/sam2.1/sam2.1_hiera_t.yaml"
        return Sam2()

    def build_efficienttam(config_file, ckpt_path, device, hydra_overrides_extra):
        assert config_file == "configs/efficienttam/efficienttam_ti.yaml" and ckpt_path is None
        assert hydra_overrides_extra == ["++model.compile_image_encoder=False"]
        return Sam2(has_finer_maps=False)

    make = {
        "edge_sam": lambda: Sam(SmallEncoder(), authors.SIZE),
        "efficient_sam_vitt": lambda: EfficientSam(SmallEncoder()),
        "sam2.1_hiera_tiny": Sam2,
        "edgetam": Sam2,
        "efficienttam_ti": lambda: Sam2(has_finer_maps=False),
    }
    monkeypatch.setattr(sam, "IMAGE_SIZE", authors.SIZE)
    networks = SimpleNamespace(
        RepViT=rep_vit,
        build_efficient_sam=build_efficient_sam,
        build_sam2=build_sam2,
        build_efficienttam=build_efficienttam,
        create_model=create_model,
    )
    for adapter in (sam, efficient_sam):
        monkeypatch.setattr(adapter, "import_part", lambda *_: networks)
    monkeypatch.setattr(sam2_adapter, "import_whole", lambda *_: networks)
    return run


@pytest.mark.parametrize("architecture", ["edge_sam", "efficient_sam_vitt"])
def test_a_bundle_answers_as_its_authors_predictor(export, architecture):
    """An image to resize, and one batch of prompts, to logits and predicted IoU."""
    bundle = export(architecture)
    with Segmenter.from_bundle(bundle.folder, "grid2", "onnxruntime") as segmenter:
        logits, iou = segmenter.decode(segmenter.encode(authors.IMAGE), *authors.batch())
    with np.load(authors.REFERENCE) as stored:
        for row, name in enumerate(authors.LABELS):
            found = authors.sampled(name, logits[row])
            np.testing.assert_allclose(found, stored[f"{architecture} {name} logits"], **CLOSE)
            np.testing.assert_allclose(iou[row], stored[f"{architecture} {name} iou"], **CLOSE)


@pytest.mark.parametrize(
    ("architecture", "stored_as"),
    [("sam2.1_hiera_tiny", "finer"), ("edgetam", "finer"), ("efficienttam_ti", "coarse")],
)
def test_a_bundle_answers_as_sam_2s_predictor(export, architecture, stored_as):
    """As above, stretched to the square; with two finer maps, and with none."""
    bundle = export(architecture)
    assert bundle.resize == "stretch"
    with Segmenter.from_bundle(bundle.folder, "grid2", "onnxruntime") as segmenter:
        logits, iou = segmenter.decode(segmenter.encode(authors.IMAGE), *authors.batch())
    with np.load(sam2.REFERENCE) as stored:
        for row, name in enumerate(authors.LABELS):
            found = authors.sampled(name, logits[row, 1:])
            expected = stored[f"{stored_as} {name} logits"]
            assert expected.std() > 0.02
            np.testing.assert_allclose(found, expected, **CLOSE)
            np.testing.assert_allclose(iou[row, 1:], stored[f"{stored_as} {name} iou"], **CLOSE)


def test_a_bundle_says_its_architecture_and_the_licence_of_its_weights(export):
    bundle = export("edge_sam")
    assert bundle.licence == "S-Lab-1.0 (non-commercial)"
    assert bundle.provenance["architecture"] == "edge_sam"
    assert bundle.provenance["checkpoint"]["origin"] == "not the published file"
    assert set(bundle.split_graphs) == {"decoder_frame", "decoder_prompts", "decoder_masks"}
    with Segmenter.from_bundle(bundle.folder, "grid2", "onnxruntime") as segmenter:
        assert segmenter.engine.num_masks == MASKS and segmenter.engine.accepts_mask_input


@pytest.fixture
def checkpoint(tmp_path):
    torch.save({"x": torch.zeros(1)}, tmp_path / "x.pt")
    return str(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["edgetam"], "edgetam needs its authors' code: --source, a checkout of github.com/"),
        (["edgetam", "--source", "."], "holds no folder sam2; needed: a checkout of"),
        (["mobile_sam", "--source", "."], "--source goes with --architecture"),
    ],
)
def test_a_missing_checkout_is_named(checkpoint, tmp_path, capsys, monkeypatch, words, reason):
    monkeypatch.chdir(tmp_path)
    command = ["export", "--checkpoint", checkpoint, "--out", "b", "--architecture", *words]
    assert main(command) == 2
    assert reason in capsys.readouterr().err and not (tmp_path / "b").exists()


def test_a_missing_package_is_named(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    command = ["export", "--checkpoint", checkpoint, "--out", str(tmp_path / "b")]
    assert main([*command, "--architecture", "sam_vit_b"]) == 2
    assert "pip install segment-anything" in capsys.readouterr().err


def test_published_weights_have_an_architecture_and_its_licence():
    others = {name: weights for name, weights in KNOWN.items() if "export" in weights.description}
    del others["mobile_sam"]
    assert set(others) == set(ARCHITECTURES)
    for name, weights in others.items():
        assert weights.licence == ARCHITECTURES[name].licence


@pytest.fixture
def sam2_decoder():
    from aopsam_ros.models.adapters.sam2_decoder import ImageDecoder

    model = sam2.with_random_weights(PromptEncoder(), MaskDecoder())
    return ImageDecoder(model).eval()


@torch.no_grad()
@pytest.mark.parametrize("name", sam2.PROMPTS)
def test_sam_2s_decoder_answers_as_its_authors(sam2_decoder, name):
    coords, labels, mask = sam2.PROMPTS[name]
    masks = () if mask is None else (mask, torch.ones(len(mask)))
    found = sam2_decoder(sam2.folded_embedding(), coords, labels, *masks)
    with np.load(sam2.REFERENCE) as stored:
        for part, answer in zip(("logits", "iou"), found, strict=True):
            expected = stored[f"{name}_{part}"]
            assert expected.std() > 0.02
            np.testing.assert_allclose(sam2.sampled(f"{name}_{part}", answer), expected, **CLOSE)


@torch.no_grad()
def test_sam_2s_prompts_mean_the_same_in_any_batch(sam2_decoder):
    coords, labels, _ = sam2.PROMPTS["points"]
    point, one, _ = sam2.PROMPTS["point"]
    alone = sam2_decoder(sam2.folded_embedding(), point, one)
    padding = torch.full((2, 2, 2), 7.0), -torch.ones(2, 2)
    padded = [torch.cat(pair, 1) for pair in zip((point, one), padding, strict=True)]
    both = [torch.cat(pair) for pair in zip((coords, labels), padded, strict=True)]
    batched = sam2_decoder(sam2.folded_embedding(), *both)
    for a, b in zip(batched, alone, strict=True):
        torch.testing.assert_close(a[2:], b, rtol=1e-5, atol=1e-5)


def add_decomposed_rel_pos(attn, q, rel_pos_h, rel_pos_w, q_size, k_size):
    """SAM's, for as many queries as keys: it is looked up beside the attention's class."""
    side = q_size[0]
    apart = torch.arange(side)[:, None] - torch.arange(side)[None] + side - 1
    rows, columns = (
        torch.einsum(how, q.reshape(1, side, side, -1), table[apart])
        for how, table in (("bhwc,hkc->bhwk", rel_pos_h), ("bhwc,wkc->bhwk", rel_pos_w))
    )
    return attn + (rows[..., :, None] + columns[..., None, :]).reshape_as(attn)


class SmallAttention(torch.nn.Module):
    """Attention with SAM's names; of all its heads, and keeping what it computed."""

    num_heads = 2

    def __init__(self, has_position):
        super().__init__()
        self.qkv = torch.nn.Linear(8, 24)
        if has_position:
            self.rel_pos_h, self.rel_pos_w = (
                torch.nn.Parameter(torch.randn(15, 4)) for _ in range(2)
            )

    def forward(self, x):
        side = x.shape[1]
        query, key, value = self.qkv(x).reshape(-1, 3, self.num_heads, 4).permute(1, 2, 0, 3)
        scores = query @ key.transpose(1, 2) / 2.0
        if hasattr(self, "rel_pos_h"):
            tables, size = (self.rel_pos_h, self.rel_pos_w), (side, side)
            scores = torch.cat(
                [
                    add_decomposed_rel_pos(of_head[None], q[None], *tables, size, size)
                    for of_head, q in zip(scores, query, strict=True)
                ]
            )
        self.attention = scores.softmax(-1)
        return (self.attention @ value).transpose(0, 1).reshape(x.shape)


class SmallVit(SmallEncoder):
    """An encoder with three blocks, the second of windows."""

    def __init__(self, has_position, size=128):
        super().__init__()
        torch.manual_seed(0)
        self.img_size = size
        self.project = torch.nn.Conv2d(256, 8, 1)
        self.blocks = torch.nn.ModuleList(torch.nn.Module() for _ in range(3))
        for block, window in zip(self.blocks, (0, 4, 0), strict=True):
            block.attn, block.window_size = SmallAttention(has_position), window

    def forward(self, image):
        embedding = self.patches(image)
        tokens = 5.0 * self.project(embedding).permute(0, 2, 3, 1)
        for block in self.blocks[::2]:
            tokens = tokens + block.attn(tokens)
        return embedding


@torch.no_grad()
@pytest.mark.parametrize("has_position", [True, False], ids=["SAM's positions", "none"])
@pytest.mark.parametrize("most", [8, 4], ids=["all cells", "pooled"])
def test_attention_is_the_authors_of_one_layer_and_head(monkeypatch, has_position, most):
    monkeypatch.setattr("aopsam_ros.models.adapters.attention.MOST_CELLS", most)
    encoder = SmallVit(has_position)
    parts = with_attention(sam_parts(Sam(encoder, encoder.img_size)), 2, 1)
    image = torch.randn(1, 3, 128, 128)
    embedding, attention = parts.encoder(image)
    torch.testing.assert_close(embedding, encoder(image))
    theirs = encoder.blocks[2].attn.attention[1].numpy()
    pooled = theirs.reshape((most, 8 // most) * 4).mean((1, 3)).sum((3, 5))
    assert theirs.std() > 0.01 and parts.attention.side == most
    np.testing.assert_allclose(attention[0], pooled.reshape(most**2, -1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "head", "reason"),
    [
        (1, 0, "no layer 1 attends to the whole image; of this encoder layers 0, 2 do"),
        (2, 2, "layer 2 has heads 0 to 1, not 2"),
    ],
)
def test_attention_of_windows_is_refused(layer, head, reason):
    with pytest.raises(OptionError, match=reason):
        with_attention(sam_parts(Sam(SmallVit(False), 128)), layer, head)
    with pytest.raises(OptionError, match="of this encoder none does"):
        with_attention(sam_parts(MobileSam(64)), layer, head)


def test_an_export_with_attention_gives_clusters_of_it(tmp_path, monkeypatch, capsys):
    from aopsam_ros.models.adapters import sam

    monkeypatch.setattr(SmallEncoder, "img_size", 128)
    model = Sam(SmallVit(False), 128)
    registry = {"vit_b": lambda: SimpleNamespace(image_encoder=SmallVit(False))}
    networks = SimpleNamespace(sam_model_registry=registry)
    monkeypatch.setattr(sam, "import_part", lambda *_: networks)
    torch.save(model.state_dict(), tmp_path / "sam.pth")
    out = tmp_path / "b"
    command = ["export", "--architecture", "sam_vit_b", "--checkpoint", str(tmp_path / "sam.pth")]
    with pytest.raises(SystemExit):
        main([*command, "--attention", "2", "--out", str(out)])
    assert "'2' is not LAYER,HEAD, two whole numbers" in capsys.readouterr().err
    assert main([*command, "--attention", "2,1", "--out", str(out)]) == 0
    bundle = load_bundle(out)
    assert (bundle.attention.layer, bundle.attention.head, bundle.attention.side) == (2, 1, 8)
    with Segmenter.from_bundle(out, "clusters", "onnxruntime") as segmenter:
        frame = segmenter.encode(np.zeros((128, 128, 3), np.uint8))
        assert segmenter.engine.attention(frame.handle).shape == (1, 64, 64)
