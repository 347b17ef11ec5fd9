"""A trained network as an `nn.Module` that takes images as they come: its preprocessing is part of it."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from intel_scenes.data.pipelines import View
from intel_scenes.data.resize import normalize
from intel_scenes.data.squares import Storing
from intel_scenes.inference.trained import Trained


class SceneNetwork(nn.Module):
    """A classifier of images of any size, in evaluation mode: resizes, crops and normalizes, then computes.

    Of stored images (uint8 squares of side `data.store_size`) it computes the logits that the evaluation of the run
    computed. Others are resized by torch, whose pixels may differ from Pillow's by a rounding. Gradients flow back to
    images of floats.

    Attributes:
        backbone: (B, 3, S, S) normalized images to (B, C) logits.
        classes: In the order of the logits.
        temperature: That validation chose: `(logits / temperature).softmax(1)` are calibrated probabilities.
        view: Side of the input, resize, interpolation, mean and standard deviation.
    """

    def __init__(self, one: Trained) -> None:
        """Takes over a network with its weights."""
        super().__init__()
        self.backbone = one.network
        self.classes = one.classes
        self.temperature = one.temperature
        self.view: View = one.pipeline.view
        self._storing: Storing = one.storing
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images.

        Args:
            images: (B, 3, H, W) RGB, uint8, or floats in 0..1.

        Returns:
            (B, C) logits.

        Raises:
            ValueError: The images are of another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images are {tuple(images.shape)}, and must be (B, 3, H, W)")
        view, storing = self.view, self._storing
        is_bytes = images.dtype == torch.uint8
        # On a CPU torch resizes bytes as Pillow does; elsewhere it resizes floats alone.
        seen = images if is_bytes and images.device.type == "cpu" else images.float() * (1 if is_bytes else 255)
        seen = _resized(seen, storing.size, "bicubic" if storing.rule == "square" else view.interpolation)
        if view.resize != storing.size:
            seen = _resized(_middle(seen, storing.size), view.resize, view.interpolation)
        logits: Tensor = self.backbone(normalize(_middle(seen, view.size), view.mean, view.std))
        return logits


def _resized(images: Tensor, shorter: int, interpolation: str) -> Tensor:
    """Images whose shorter side is resized, with antialiasing; those that have it stay as they are."""
    height, width = images.shape[-2:]
    if min(height, width) == shorter:
        return images
    scale = shorter / min(height, width)
    size = max(shorter, round(height * scale)), max(shorter, round(width * scale))
    resized = functional.interpolate(images, size, mode=interpolation, antialias=True)
    return resized if resized.dtype == torch.uint8 else resized.clamp(0, 255)


def _middle(images: Tensor, side: int) -> Tensor:
    """The middle square of images, as torchvision's `CenterCrop` takes it."""
    top, left = (round((length - side) / 2) for length in images.shape[-2:])
    return images[..., top : top + side, left : left + side]
