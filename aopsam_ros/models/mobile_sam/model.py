"""MobileSAM as a whole, and its decoder with a bundle's signature."""

from torch import Tensor, nn

from aopsam_ros.models.mobile_sam.mask_decoder import MaskDecoder
from aopsam_ros.models.mobile_sam.prompt_encoder import STRIDE, PromptEncoder
from aopsam_ros.models.mobile_sam.tiny_vit import EMBEDDING_CHANNELS, TinyVit

IMAGE_SIZE = 1024  # what the published weights were trained for


class Sam(nn.Module):
    """An image encoder with SAM's prompt encoder and mask decoder.

    Args:
        image_encoder: images `[1, 3, S, S]` to embeddings `[1, 256, S/16, S/16]`.
        image_size: S, pixels; a multiple of 16. The decoder's weights do not depend on it.
    """

    def __init__(self, image_encoder: nn.Module, image_size: int = IMAGE_SIZE) -> None:
        super().__init__()
        self.image_size = image_size
        self.image_encoder = image_encoder
        self.prompt_encoder = PromptEncoder(image_size)
        self.mask_decoder = MaskDecoder(image_size // STRIDE)


class MobileSam(Sam):
    """SAM with TinyViT as its image encoder, whose weights do not depend on `image_size` either."""

    def __init__(self, image_size: int = IMAGE_SIZE) -> None:
        super().__init__(TinyVit(), image_size)


class PointDecoder(nn.Module):
    """Prompt encoder and mask decoder of a model with a bundle's signature."""

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.prompt_encoder = model.prompt_encoder
        self.mask_decoder = model.mask_decoder
        position = model.prompt_encoder.image_position().detach()
        # Persistent: the exporter would store one that is not once for each use.
        self.register_buffer("image_position", position)

    def forward(
        self,
        embedding: Tensor,
        coords: Tensor,
        labels: Tensor,
        mask_input: Tensor | None = None,
        has_mask_input: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decode N prompts of K points, each with a mask to start from or without.

        Args:
            embedding: `[1, 256, S/16, S/16]`.
            coords: `[N, K, 2]`, x and y in pixels of the encoder's square.
            labels: `[N, K]`: 1 foreground, 0 background, 2 and 3 box corners, -1 padding.
            mask_input: logits `[N, 1, S/4, S/4]`; None: no prompt has one.
            has_mask_input: `[N]`, 1 where the mask counts.

        Returns:
            Logits `[N, 4, S/4, S/4]` and predicted IoU `[N, 4]`, SAM's single mask first.
        """
        prompts, is_present = self.prompt_encoder(coords, labels)
        image = embedding.reshape(1, EMBEDDING_CHANNELS, -1).transpose(1, 2)
        dense = self.prompt_encoder.no_mask_embed.weight
        if mask_input is not None and has_mask_input is not None:
            masks = self.prompt_encoder.mask_downscaling(mask_input)
            masks = masks.reshape(-1, EMBEDDING_CHANNELS, image.shape[1]).transpose(1, 2)
            dense = dense + has_mask_input.reshape(-1, 1, 1) * (masks - dense)
        position = self.image_position
        return self.mask_decoder(image + dense, position, prompts, is_present)
