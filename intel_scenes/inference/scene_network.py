"""A trained network as an `nn.Module` that includes its preprocessing."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from intel_scenes.data.packed import longer_side, shape_around_square
from intel_scenes.data.pipelines import View
from intel_scenes.data.resize import normalize
from intel_scenes.data.squares import Storing
from intel_scenes.inference.trained import Trained


class SceneNetwork(nn.Module):
    """A classifier of images of any size, in evaluation mode; it resizes, crops and normalizes them itself.

    For images as the run stored them (uint8 squares of side `data.store_size`) it returns the logits of the run's own
    evaluation. Images of other sizes are cut as the run cuts them, and resized by torch, whose pixels can differ from
    Pillow's by a rounding.
    Gradients flow back to float images.

    Attributes:
        backbone: Network from (B, 3, S, S) normalized images to (B, C) logits.
        classes: Names of the classes, in the order of the logits.
        temperature: Fitted to the validation images; `(logits / temperature).softmax(1)` are calibrated probabilities.
        view: Input size, resize, interpolation, mean and standard deviation.
    """

    def __init__(self, trained: Trained) -> None:
        """Wrap a trained network."""
        super().__init__()
        self.backbone = trained.network
        self.classes = trained.classes
        self.temperature = trained.temperature
        self.view: View = trained.pipeline.view
        self._storing: Storing = trained.storing
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Map images to logits.

        Args:
            images: (B, 3, H, W) RGB, uint8, or floats in 0..1.

        Returns:
            (B, C) logits.

        Raises:
            ValueError: The images have another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images have shape {tuple(images.shape)}, but must be (B, 3, H, W)")
        view, size = self.view, self._storing.size
        is_uint8 = images.dtype == torch.uint8
        # On a CPU torch resizes uint8 images as Pillow does; elsewhere it resizes only floats.
        pixels = images if is_uint8 and images.device.type == "cpu" else images.float() * (1 if is_uint8 else 255)
        height, width = images.shape[-2:]
        if self._storing.rule == "square":
            pixels = _resized(pixels, shape_around_square((height, width), size), "bicubic")
            top, left = ((length - size) // 2 for length in pixels.shape[-2:])
            pixels = pixels[..., top : top + size, left : left + size]
        else:
            longer = longer_side((height, width), size)
            pixels = _resized(pixels, (longer, size) if height > width else (size, longer), view.interpolation)
        if view.resize != size:
            pixels = _resized(_center_crop(pixels, size), (view.resize, view.resize), view.interpolation)
        logits: Tensor = self.backbone(normalize(_center_crop(pixels, view.size), view.mean, view.std))
        return logits


def _resized(images: Tensor, shape: tuple[int, int], interpolation: str) -> Tensor:
    """Resize images to a height and width with antialiasing; images that have them already are returned unchanged."""
    if images.shape[-2:] == shape:
        return images
    resized = functional.interpolate(images, shape, mode=interpolation, antialias=True)
    return resized if resized.dtype == torch.uint8 else resized.clamp(0, 255)


def _center_crop(images: Tensor, side: int) -> Tensor:
    """Crop the center square as torchvision's `CenterCrop` does."""
    top, left = (round((length - side) / 2) for length in images.shape[-2:])
    return images[..., top : top + side, left : left + side]
