"""Prompts put to bundles of EdgeSAM and EfficientSAM and to their authors' own predictors.

The encoder is a small one of random weights in both. As a program, which needs the packages
`edge_sam` and `efficient_sam` of the authors, this writes the answers of the predictors:

    PYTHONPATH=test python -m support.authors.adapter_cases
"""

from pathlib import Path

import numpy as np
import torch

from support.random_weights import random_state, uniform

REFERENCE = Path(__file__).parents[2] / "models" / "adapters_reference.npz"
SIZE, SIDE, WIDTH = 64, 4, 256
SAMPLES = 300  # logits of each prompt that are stored
MOST = 8  # points of a prompt
# Enlarged 2 or 4 times, the values stay whole numbers: all resize it equally.
IMAGE = uniform("image", (16, 32, 3), 0, 8).astype(np.uint8) * 32
LABELS = {
    "point": [1],
    "box": [2, 3],
    "points": [1, 0, 1],
    "more than six": [1, 0, 1, 1, 0, 1, 1, 0],
}
# Pixels of the image; the first corner of the box is its upper left one.
COORDS = {name: uniform(name, (len(labels), 2)) * (32, 16) for name, labels in LABELS.items()}
COORDS["box"] = np.array([[3.0, 2.0], [21.0, 13.0]])


class SmallEncoder(torch.nn.Module):
    """In place of the authors' encoders: their signature, for small images."""

    img_size = SIZE

    def __init__(self):
        super().__init__()
        self.patches = torch.nn.Conv2d(3, WIDTH, 16, 16)

    def forward(self, image):
        return self.patches(image)


def with_random_weights(model):
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict({n: torch.from_numpy(v) for n, v in random_state(shapes).items()})
    return model.eval()


def batch():
    """All prompts as one batch, `[N, K, 2]` and `[N, K]`; where there is no point, something is."""
    coords, labels = np.full((len(LABELS), MOST, 2), 7.0), np.full((len(LABELS), MOST), -1.0)
    for row, name in enumerate(LABELS):
        coords[row, : len(LABELS[name])], labels[row, : len(LABELS[name])] = (
            COORDS[name],
            LABELS[name],
        )
    return coords, labels


def sampled(name, logits):
    """Pick the values that are stored, `[SAMPLES]`, of the logits of one prompt."""
    values = np.asarray(logits).ravel()
    return values[(uniform(name, (SAMPLES,)) * values.size).astype(int)]


def edge_sams_answers():
    from edge_sam.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
    from edge_sam.predictor import SamPredictor

    transformer = TwoWayTransformer(2, WIDTH, num_heads=8, mlp_dim=2048)
    model = Sam(
        SmallEncoder(),
        PromptEncoder(WIDTH, (SIDE, SIDE), (SIZE, SIZE), mask_in_chans=16),
        MaskDecoder(transformer_dim=WIDTH, transformer=transformer),
    )
    predictor = SamPredictor(with_random_weights(model))
    predictor.set_image(IMAGE)
    for name, labels in LABELS.items():
        points = {"point_coords": COORDS[name], "point_labels": np.array(labels)}
        given = {"box": COORDS[name].ravel()} if name == "box" else points
        _, iou, logits = predictor.predict(None, **given, num_multimask_outputs=4)
        yield name, logits, iou


def efficient_sams_answers():
    from efficient_sam.efficient_sam import EfficientSam, build_efficient_sam
    from efficient_sam.efficient_sam_decoder import PromptEncoder

    decoder = build_efficient_sam(192, 3).mask_decoder
    prompts = PromptEncoder(WIDTH, (SIDE, SIDE), (SIZE, SIZE))
    model = with_random_weights(EfficientSam(SmallEncoder(), prompts, 6, decoder))
    image = torch.from_numpy(IMAGE).permute(2, 0, 1)[None] / 255
    for name, labels in LABELS.items():
        points = torch.tensor(COORDS[name], dtype=torch.float32)[None, None]
        with torch.no_grad():
            logits, iou = model(image, points, torch.tensor([[labels]]), False)
        yield name, logits[0, 0].numpy(), iou[0, 0].numpy()


def main():
    stored = {}
    for model, answers in (
        ("edge_sam", edge_sams_answers()),
        ("efficient_sam_vitt", efficient_sams_answers()),
    ):
        for name, logits, iou in answers:
            stored[f"{model} {name} logits"], stored[f"{model} {name} iou"] = (
                sampled(name, logits),
                iou,
            )
            print(model, name, logits.shape, f"standard deviation {logits.std():.3g}", iou)
    np.savez_compressed(REFERENCE, **stored)


if __name__ == "__main__":
    main()
