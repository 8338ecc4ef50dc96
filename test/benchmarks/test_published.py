"""The scripts that run what MobileSAM's authors published, with a stand-in for their package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from aopsam_benchmarks import official, published_decoder  # noqa: E402

STAND_IN = """
import torch


class SamAutomaticMaskGenerator:
    def __init__(self, model, **options):
        assert not model.training and float(model.weight) == 7.0
        assert options == dict(
            points_per_side=5, pred_iou_thresh=0.5, stability_score_thresh=0.25, box_nms_thresh=1.0
        )

    def generate(self, rgb):
        assert rgb.shape == (8, 12, 3)
        return [{"area": 3}, {"area": 0}, {"area": 1}]


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))


    class prompt_encoder:
        no_mask_embed = torch.nn.Embedding.from_pretrained(torch.full((1, 256), 0.5))

        def get_dense_pe():
            return torch.full((1, 256, 4, 4), 2.0)

    def mask_decoder(self, *, multimask_output, **given):
        assert multimask_output
        points = given["sparse_prompt_embeddings"]
        image, position = (
            torch.repeat_interleave(given[name], points.shape[0], dim=0)
            for name in ("image_embeddings", "image_pe")
        )
        image = image + given["dense_prompt_embeddings"] + position
        iou = float(self.weight) * points.sum(1)
        return image[:, :3] + iou[:, :, None, None], iou


sam_model_registry = {"vit_t": Model}
"""
STAND_IN_FOR_EXPORT = """
class SamOnnxModel:
    def __init__(self, model, return_single_mask):
        assert not return_single_mask

    def _embed_points(self, coords, labels):
        return (coords.sum(-1) * labels)[..., None].expand(-1, -1, 3)
"""


@pytest.fixture
def run(tmp_path):
    """Run a script that uses the published package, of which there is a stand-in."""
    package = tmp_path / "mobile_sam"
    (package / "utils").mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    (package / "utils" / "onnx.py").write_text(STAND_IN_FOR_EXPORT)
    torch.save({"weight": torch.tensor(7.0)}, tmp_path / "weights.pt")

    def start(script, *arguments):
        command = [sys.executable, script.__file__, "--package", tmp_path]
        command += ["--weights", tmp_path / "weights.pt", *arguments]
        found_here = {**os.environ, "PYTHONPATH": str(Path(script.__file__).parents[1])}
        subprocess.run([str(word) for word in command], check=True, env=found_here)

    return start


def test_the_published_decoder_is_exported_for_any_number_of_prompts(run, tmp_path):
    import onnxruntime

    run(published_decoder, "--out", tmp_path / "decoder.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "decoder.onnx")
    random = np.random.default_rng(0)
    embedding = random.normal(size=(1, 256, 4, 4)).astype(np.float32)
    for prompts, points in ((1, 1), (3, 2)):
        coords = random.uniform(0, 64, (prompts, points, 2)).astype(np.float32)
        labels = np.ones((prompts, points), np.float32)
        inputs = {"embedding": embedding, "point_coords": coords, "point_labels": labels}
        logits, iou = session.run(["low_res_logits", "predicted_iou"], inputs)
        wanted = np.repeat(7.0 * coords.sum((1, 2))[:, None], 3, 1)  # what ends a prompt is zero
        np.testing.assert_allclose(iou, wanted, rtol=1e-5)
        image = embedding[:, :3] + 2.5
        np.testing.assert_allclose(logits, image + wanted[..., None, None], rtol=1e-5)


def test_official_generator_is_run_with_the_same_weights_and_thresholds(run, tmp_path):
    np.save(tmp_path / "image.npy", np.zeros((8, 12, 3), np.uint8))
    words = ["--image", tmp_path / "image.npy", "--out", tmp_path / "out.json"]
    words += ["--predicted-iou", 0.5, "--stability", 0.25, "--overlap", 1.0, "--grid", 5]
    run(official, *words, "--runs", 2, "--threads", 1)
    facts = json.loads((tmp_path / "out.json").read_text())
    assert len(facts["seconds"]) == 2
    assert facts["masks"] == 2
