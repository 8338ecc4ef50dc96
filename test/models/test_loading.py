"""Loading nano's checkpoints, one or the mean of several."""

import pytest

from aopsam_ros.errors import InputError

torch = pytest.importorskip("torch")

from aopsam_ros.models.loading import (  # noqa: E402
    load_averaged_segmenter,
    load_segmenter,
    load_weights,
)
from aopsam_ros.models.nano import NanoSegmenter  # noqa: E402


@pytest.fixture
def runs(tmp_path):
    """Two runs' checkpoints: all weights of the first are 1, of the second 3."""
    files = []
    for name, value in (("first", 1.0), ("second", 3.0)):
        model = NanoSegmenter("lite0")
        state = {key: torch.full_like(tensor, value) for key, tensor in model.state_dict().items()}
        files.append(tmp_path / name / "segmenter.pt")
        files[-1].parent.mkdir()
        torch.save({"model": state, "options": {"backbone": "lite0"}, "step": value}, files[-1])
    return files


def test_a_mean_of_runs_says_what_the_first_says(runs):
    first, second = runs
    model, facts = load_averaged_segmenter(first, [second, second])
    assert facts["step"] == 1.0
    for tensor in model.state_dict().values():
        torch.testing.assert_close(tensor, torch.full_like(tensor, 7 / 3))
    alone = load_segmenter(first)[0].state_dict()
    assert all((tensor == 1).all() for tensor in alone.values())


def test_another_models_weights_have_no_mean_with_it(runs):
    first, second = runs
    weights = load_weights(second)
    torch.save({"model": dict(list(weights.items())[1:])}, second)
    with pytest.raises(InputError, match="weights of another model"):
        load_averaged_segmenter(first, [second])
