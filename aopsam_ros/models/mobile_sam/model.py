"""MobileSAM as a whole, and its decoder with a bundle's signature."""

from torch import Tensor, nn

from aopsam_ros.models.mobile_sam.mask_decoder import ALTERNATIVES, MaskDecoder
from aopsam_ros.models.mobile_sam.prompt_encoder import STRIDE, PromptEncoder
from aopsam_ros.models.mobile_sam.tiny_vit import EMBEDDING_CHANNELS, TinyVit

IMAGE_SIZE = 1024  # what the published weights were trained for
# ImageNet's mean and standard deviation, per channel, on the 0-255 scale.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


class MobileSam(nn.Module):
    """Image encoder, prompt encoder and mask decoder.

    Args:
        image_size: side of the square image, pixels; a multiple of 16. Weights do not depend on it.
    """

    def __init__(self, image_size: int = IMAGE_SIZE) -> None:
        super().__init__()
        self.image_size = image_size
        self.image_encoder = TinyVit()
        self.prompt_encoder = PromptEncoder(image_size)
        self.mask_decoder = MaskDecoder(image_size // STRIDE)


class PointDecoder(nn.Module):
    """Prompt encoder and mask decoder with a bundle's signature: points in, three masks out."""

    def __init__(self, model: MobileSam) -> None:
        super().__init__()
        self.prompt_encoder = model.prompt_encoder
        self.mask_decoder = model.mask_decoder
        position = model.prompt_encoder.image_position().detach()
        # Persistent: the exporter would store one that is not once for each use.
        self.register_buffer("image_position", position)

    def forward(self, embedding: Tensor, coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Decode N prompts of K points.

        Args:
            embedding: `[1, 256, S/16, S/16]`.
            coords: `[N, K, 2]`, x and y in pixels of the encoder's square.
            labels: `[N, K]`: 1 foreground, 0 background, 2 and 3 box corners, -1 padding.

        Returns:
            Logits `[N, 3, S/4, S/4]` and predicted IoU `[N, 3]`, SAM's three alternatives.
        """
        prompts, is_present = self.prompt_encoder(coords, labels)
        image = embedding.reshape(1, EMBEDDING_CHANNELS, -1).transpose(1, 2)
        image = image + self.prompt_encoder.no_mask_embed.weight
        position = self.image_position
        return self.mask_decoder(image, position, prompts, is_present, ALTERNATIVES)
