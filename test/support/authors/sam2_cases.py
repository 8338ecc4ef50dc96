"""The same prompts put to our wrapping of SAM 2's decoder and to the decoder itself.

And the same image and prompts put to a bundle and to the authors' predictor. The tests wrap
`modules`. As a program, which needs the authors' package `sam2`, this writes their
answers:

    PYTHONPATH=test python -m support.authors.sam2_cases
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from support.authors import adapter_cases
from support.authors.sam2_modules import (
    HEADS,
    SIDE,
    WIDTH,
    ImageEncoder,
    MaskDecoder,
    PromptEncoder,
    Sam2,
)
from support.random_weights import random_state, uniform

REFERENCE = Path(__file__).parents[2] / "models" / "sam2_reference.npz"
SIZE = 16 * SIDE
SAMPLES = 150  # values of each answer that are stored


def tensor(name, *shape, low=-1.0, high=1.0):
    return torch.from_numpy(uniform(name, shape, low, high))


EMBEDDING = tensor("e", 1, WIDTH, SIDE, SIDE)
FINER = (tensor("s0", 1, 32, 4 * SIDE, 4 * SIDE), tensor("s1", 1, 64, 2 * SIDE, 2 * SIDE))
MASK = tensor("mask", 2, 1, 4 * SIDE, 4 * SIDE, low=-10.0, high=10.0)
# Coordinates, labels, and a mask to start from.
PROMPTS = {
    "point": (tensor("p", 2, 1, 2, low=0, high=SIZE), torch.ones(2, 1), None),
    "box": (tensor("b", 2, 2, 2, low=0, high=SIZE), torch.tensor([[2.0, 3.0]] * 2), None),
    "points": (tensor("ps", 2, 3, 2, low=0, high=SIZE), torch.tensor([[1.0, 0, 1]] * 2), None),
    "masked": (tensor("m", 2, 1, 2, low=0, high=SIZE), torch.ones(2, 1), MASK),
}


def folded_embedding():
    """The embedding of a bundle: finer maps as further channels."""
    finest, finer = FINER
    return torch.cat([EMBEDDING, F.pixel_unshuffle(finest, 4), F.pixel_unshuffle(finer, 2)], 1)


def with_random_weights(prompt_encoder, mask_decoder):
    """Return a model of these parts, as far as a decoder's wrapping looks at it."""
    for part in (prompt_encoder, mask_decoder):
        shapes = {name: tuple(value.shape) for name, value in part.state_dict().items()}
        state = {name: torch.from_numpy(v) for name, v in random_state(shapes).items()}
        part.load_state_dict(state)
        part.eval()
    return SimpleNamespace(
        sam_prompt_encoder=prompt_encoder, sam_mask_decoder=mask_decoder, image_size=SIZE
    )


def sampled(name, answer):
    values = answer.detach().numpy().ravel()
    return values[(uniform(name, (SAMPLES,)) * values.size).astype(int)]


def predictors_answers(has_finer_maps):
    """Yield name, logits and predicted IoU of each prompt on `adapter_cases.IMAGE`."""
    from sam2.modeling.sam2_base import SAM2Base
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    model = SAM2Base(
        ImageEncoder(),
        torch.nn.Identity(),
        torch.nn.Identity(),
        image_size=SIZE,
        directly_add_no_mem_embed=True,
        use_high_res_features_in_sam=has_finer_maps,
        iou_prediction_use_sigmoid=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
    )
    state = adapter_cases.with_random_weights(Sam2(has_finer_maps)).state_dict()
    assert not model.load_state_dict(state, strict=False).unexpected_keys
    predictor = SAM2ImagePredictor(model.eval())
    predictor._bb_feat_sizes = [(SIDE * n, SIDE * n) for n in (4, 2, 1)]
    predictor.set_image(adapter_cases.IMAGE)
    for name, labels in adapter_cases.LABELS.items():
        coords = adapter_cases.COORDS[name]
        points = {"point_coords": coords, "point_labels": np.array(labels)}
        given = {"box": coords.ravel()} if name == "box" else points
        _, iou, logits = predictor.predict(**given, multimask_output=True)
        assert np.abs(logits).max() < 32  # where the authors cut them off
        yield name, logits, iou


def main():
    from sam2.modeling.sam.mask_decoder import MaskDecoder as TheirDecoder
    from sam2.modeling.sam.prompt_encoder import PromptEncoder as TheirEncoder
    from sam2.modeling.sam.transformer import TwoWayTransformer

    transformer = TwoWayTransformer(depth=2, embedding_dim=WIDTH, num_heads=HEADS, mlp_dim=2048)
    decoder = TheirDecoder(
        transformer_dim=WIDTH,
        transformer=transformer,
        use_high_res_features=True,
        iou_prediction_use_sigmoid=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
    )
    encoder = TheirEncoder(WIDTH, (SIDE, SIDE), (SIZE, SIZE), 16)
    model = with_random_weights(encoder, decoder)
    ours = with_random_weights(PromptEncoder(), MaskDecoder())
    for part in ("sam_prompt_encoder", "sam_mask_decoder"):
        names = [set(getattr(each, part).state_dict()) for each in (model, ours)]
        assert names[0] == names[1]
    stored = {}
    for name, (coords, labels, mask) in PROMPTS.items():
        with torch.no_grad():
            sparse, dense = encoder(points=(coords, labels), boxes=None, masks=mask)
            answers = decoder.predict_masks(
                EMBEDDING, encoder.get_dense_pe(), sparse, dense, True, list(FINER)
            )
        for part, answer in zip(("logits", "iou"), answers[:2], strict=True):
            stored[f"{name}_{part}"] = sampled(f"{name}_{part}", answer)
            print(f"{name}_{part}: standard deviation {stored[f'{name}_{part}'].std():.3g}")
    for has_finer_maps in (True, False):
        for name, logits, iou in predictors_answers(has_finer_maps):
            key = f"{'finer' if has_finer_maps else 'coarse'} {name}"
            stored[f"{key} logits"] = adapter_cases.sampled(name, logits)
            stored[f"{key} iou"] = iou
            print(f"{key}: standard deviation {logits.std():.3g}", iou)
    np.savez_compressed(REFERENCE, **stored)


if __name__ == "__main__":
    main()
