"""The same questions put to this project's MobileSAM and to the published implementation.

Each answer is a dictionary of arrays by name; the names and shapes of both are the same. As a
program, which needs the authors' package `mobile_sam`, it writes the stored reference anew:

    PYTHONPATH=test python -m support.authors.mobile_sam_cases
"""

from pathlib import Path

import numpy as np
import torch

from support.random_weights import random_state, uniform

REFERENCE = Path(__file__).parents[2] / "models" / "mobile_sam_reference.npz"
SIZE = 1024
CELLS = 64
SAMPLES = 150  # values of each answer that are stored


def tensor(name, shape, low=-1.0, high=1.0):
    return torch.from_numpy(uniform(name, shape, low, high))


def image():
    return tensor("image", (1, 3, SIZE, SIZE), -2.0, 2.0)


def embedding():
    return tensor("embedding", (1, 256, CELLS, CELLS), -2.0, 2.0)


def pixels(name, *shape):
    """Coordinates all over the image, beyond its edges too."""
    return tensor(name, (*shape, 2), -20.0, SIZE + 20.0)


# Points (coordinates, labels) and boxes, as the published prompt encoder takes them.
PROMPTS = {
    "one_point": (pixels("one_point", 3, 1), torch.ones(3, 1), None),
    "points": (pixels("points", 2, 4), torch.tensor([[1.0, 0, 1, 0], [0.0, 1, 1, 1]]), None),
    "boxes": (None, None, pixels("boxes", 3, 2)),
    "boxes_and_points": (
        pixels("inside", 2, 2),
        torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        pixels("around", 2, 2),
    ),
}


def as_points(coords, labels, boxes):
    """Write boxes as points of the labels 2 and 3, which is how a bundle's decoder takes them."""
    if boxes is None:
        return coords, labels
    corners = torch.tensor([2.0, 3.0]).expand(len(boxes), 2)
    if coords is None:
        return boxes, corners
    return torch.cat([boxes, coords], 1), torch.cat([corners, labels], 1)


def our_decoder_answers(model):
    """Ask the prompt encoder and the mask decoder of this project."""
    encoder, decoder = model.prompt_encoder, model.mask_decoder
    position = encoder.image_position()
    cells = embedding().flatten(2).transpose(1, 2)
    plain = cells + encoder.no_mask_embed.weight
    answers = {"image_position": position.T.reshape(1, 256, CELLS, CELLS)}
    for name, (coords, labels, boxes) in PROMPTS.items():
        tokens, counts = encoder(*as_points(coords, labels, boxes))
        logits, iou = decoder(plain, position, tokens, counts)
        answers |= {f"{name}_logits": logits, f"{name}_iou": iou}
        answers |= {f"{name}_alternatives": logits[:, 1:], f"{name}_scores": iou[:, 1:]}
    mask = encoder.mask_downscaling(tensor("mask", (3, 1, 4 * CELLS, 4 * CELLS), -10.0, 10.0))
    masked = cells + mask.flatten(2).transpose(1, 2)
    coords, labels, _ = PROMPTS["one_point"]
    logits, iou = decoder(masked, position, *encoder(coords, labels))
    return answers | {"mask_embedding": mask, "masked_logits": logits, "masked_iou": iou}


def official_decoder_answers(sam):
    """Ask the published modules."""
    encoder, decoder = sam.prompt_encoder, sam.mask_decoder
    position = encoder.get_dense_pe()
    answers = {"image_position": position}

    def decode(points, boxes, masks=None):
        tokens, dense = encoder(points=points, boxes=boxes, masks=masks)
        single, alternatives = (
            decoder(embedding(), position, tokens, dense, multimask_output=multimask)
            for multimask in (False, True)
        )
        both = [torch.cat(pair, 1) for pair in zip(single, alternatives, strict=True)]
        return *both, *alternatives, dense

    for name, (coords, labels, boxes) in PROMPTS.items():
        points = None if coords is None else (coords, labels)
        corners = None if boxes is None else boxes.flatten(1)
        logits, iou, alternatives, scores, _ = decode(points, corners)
        answers |= {f"{name}_logits": logits, f"{name}_iou": iou}
        answers |= {f"{name}_alternatives": alternatives, f"{name}_scores": scores}
    mask = tensor("mask", (3, 1, 4 * CELLS, 4 * CELLS), -10.0, 10.0)
    coords, labels, _ = PROMPTS["one_point"]
    logits, iou, _, _, dense = decode((coords, labels), None, mask)
    return answers | {"mask_embedding": dense, "masked_logits": logits, "masked_iou": iou}


def load_random_weights(model):
    """Fill either implementation with the random weights of the published names and shapes."""
    state = {name: torch.from_numpy(np.array(v)) for name, v in random_state().items()}
    model.load_state_dict(state, strict=True)
    # Again after loading: the published encoder keeps a copy of some weights from this call.
    return model.eval()


def sampled(name, answer):
    """Pick the values of an answer that are stored: the same places every time."""
    values = answer.detach().numpy().ravel()
    places = uniform(f"places of {name}", (min(SAMPLES, values.size),), 0.0, values.size)
    return values[np.minimum(places.astype(np.int64), values.size - 1)]


def main():
    from mobile_sam import sam_model_registry

    sam = load_random_weights(sam_model_registry["vit_t"]())
    with torch.no_grad():
        answers = {"embedding": sam.image_encoder(image()), **official_decoder_answers(sam)}
    np.savez_compressed(REFERENCE, **{name: sampled(name, a) for name, a in answers.items()})


if __name__ == "__main__":
    main()
