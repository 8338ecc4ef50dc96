"""MobileSAM for small images and with random weights, exported once for all tests."""

from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def model():
    """MobileSAM for images of 64 pixels; its weights have the published shapes."""
    pytest.importorskip("torch")
    from aopsam_ros.models.mobile_sam.model import MobileSam
    from support.authors.mobile_sam_cases import load_random_weights

    return load_random_weights(MobileSam(64))


@pytest.fixture(scope="session")
def predictor():
    """A Prompt Predictor for it, whose map varies."""
    torch = pytest.importorskip("torch")
    from aopsam_ros.models.prompt_predictor import PromptPredictor

    torch.manual_seed(0)
    predictor = PromptPredictor(256).eval()
    with torch.no_grad():
        predictor.head[-1].weight.mul_(30.0)
    return predictor


@pytest.fixture(scope="session")
def exported(model, predictor, tmp_path_factory):
    """A bundle with mixed graphs: its folder, and the comparison with torch."""
    pytest.importorskip("onnx")
    from aopsam_ros.models.export import export_bundle, mobile_sam_parts

    folder = tmp_path_factory.mktemp("exported") / "small"
    facts = {"name": "small", "version": "1", "licence": "-", "defaults": {}, "provenance": {}}
    comparison = export_bundle(mobile_sam_parts(model, predictor), folder, facts, mixed=True)
    return SimpleNamespace(folder=folder, comparison=comparison)
