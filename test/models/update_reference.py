"""Write the stored reference anew, from the published implementation.

Run it where the authors' package `mobile_sam` can be imported:

    PYTHONPATH=test python test/models/update_reference.py
"""

from pathlib import Path

import numpy as np
import torch
from mobile_sam import sam_model_registry

from support import mobile_sam_cases as cases

REFERENCE = Path(__file__).with_name("mobile_sam_reference.npz")


def main():
    sam = cases.load_random_weights(sam_model_registry["vit_t"]())
    with torch.no_grad():
        answers = {"embedding": sam.image_encoder(cases.image())}
        answers |= cases.official_decoder_answers(sam)
    stored = {name: cases.sampled(name, answer) for name, answer in answers.items()}
    np.savez_compressed(REFERENCE, **stored)
    for name, values in stored.items():
        print(f"{name}: {len(values)} values, standard deviation {values.std():.3g}")


if __name__ == "__main__":
    main()
