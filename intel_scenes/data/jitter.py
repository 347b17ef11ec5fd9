"""Random rotation and color jitter of a batch on its device, by random numbers drawn beforehand."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from intel_scenes.config import AugmentConfig
from intel_scenes.data.transfer import on_device

Draws = npt.NDArray[np.float64]

NUM_DRAWS = 5  # random numbers of an image: angle, brightness, contrast, saturation, vertical flip
UPSIDE_DOWN = 4  # column of the vertical flip
GRAY = (0.2989, 0.587, 0.114)  # weights of red, green and blue in the luminance, as in torchvision


def jitter(images: Tensor, draws: Draws, augmentation: AugmentConfig) -> Tensor:
    """Rotate images by random angles, then change their brightness, contrast and saturation, in this order.

    The ranges are those of torchvision's `RandomRotation` and `ColorJitter`, the arithmetic is that of its
    `v2.functional` for floats. A rotation fills the corners by reflection at the border, where torchvision has black.

    Args:
        images: (B, 3, S, S) in 0..255, uint8 or float32.
        draws: (B, NUM_DRAWS), uniform on [0, 1).
        augmentation: Augmentation whose `rotate`, `brightness`, `contrast` and `saturation` are used.

    Returns:
        (B, 3, S, S) float32 in 0..255.
    """
    # Contiguous, because sums over each channel are then faster on a CPU than in channels-last memory.
    images = images.to(torch.float32, memory_format=torch.contiguous_format)
    signed = on_device(torch.from_numpy(2 * draws - 1).to(torch.float32), images.device)  # (B, NUM_DRAWS) in -1..1
    if augmentation.rotate:
        images = rotated(images, augmentation.rotate * signed[:, 0])
    if augmentation.brightness:
        images = _blended(images, 0.0, 1 + augmentation.brightness * signed[:, 1])
    if augmentation.contrast:
        # In double precision, so that the mean of an image does not depend on its batch.
        mean = _gray(images).mean((1, 2, 3), keepdim=True, dtype=torch.float64).to(torch.float32)
        images = _blended(images, mean, 1 + augmentation.contrast * signed[:, 2])
    if augmentation.saturation:
        images = _blended(images, _gray(images), 1 + augmentation.saturation * signed[:, 3])
    return images


def rotated(images: Tensor, angles: Tensor) -> Tensor:
    """Rotate images about their center, bilinearly and with reflection at the border.

    Args:
        images: (B, 3, S, S) float32.
        angles: (B,) degrees, counterclockwise.
    """
    radians = torch.deg2rad(angles)
    cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    matrices = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _blended(images: Tensor, others: Tensor | float, shares: Tensor) -> Tensor:
    """Blend images with others; a share (B,) above 1 extrapolates away from the others."""
    shares = shares[:, None, None, None]
    return (images * shares).add_(others * (1 - shares)).clamp_(0, 255)


def _gray(images: Tensor) -> Tensor:
    """Return the (B, 1, S, S) luminance."""
    red, green, blue = (share * images[:, channel, None] for channel, share in enumerate(GRAY))
    return red + green + blue
