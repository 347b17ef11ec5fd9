"""Mixup and CutMix: pure functions of a batch and of random numbers drawn beforehand."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import betaincinv
from torch import Tensor
from torch.nn import functional

from intel_scenes.data.augment import Draws
from intel_scenes.data.transfer import on_device

NUM_DRAWS = 4  # random numbers of an image: mixup or CutMix, the share, top and left of the box


@dataclass(frozen=True)
class Mixing:
    """How each image of a batch is mixed with the next one.

    Attributes:
        mixup: Parameter alpha of the Beta distribution of mixup's shares (Zhang et al. 2018); 0 turns mixup off.
        cutmix: Parameter alpha of CutMix (Yun et al. 2019); 0 turns CutMix off. If both are on, each image is mixed by
            one of the two with equal probability.
    """

    mixup: float
    cutmix: float

    def __post_init__(self) -> None:
        """Check the parameters.

        Raises:
            ValueError: One of them is negative.
        """
        if min(self.mixup, self.cutmix) < 0:
            raise ValueError(f"mixup={self.mixup} and cutmix={self.cutmix} cannot be negative")

    def __bool__(self) -> bool:
        """Return whether images are mixed at all."""
        return max(self.mixup, self.cutmix) > 0


def mix(images: Tensor, labels: Tensor, draws: Draws, mixing: Mixing, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mix each image with the next one of its batch, and the last with the first.

    Args:
        images: (B, C, H, W) float32.
        labels: (B,) int64.
        draws: (B, NUM_DRAWS), uniform on [0, 1).
        mixing: Parameters of mixup and CutMix.
        num_classes: Number of classes.

    Returns:
        (B, C, H, W) images, and (B, num_classes) float32 shares of the classes.
    """
    is_cut = draws[:, 0] < (0.5 if mixing.mixup and mixing.cutmix else float(mixing.cutmix > 0))
    alphas = np.where(is_cut, mixing.cutmix, mixing.mixup)
    own = betaincinv(alphas, alphas, draws[:, 1])
    boxes = _boxes(own, draws[:, 2], draws[:, 3], *images.shape[-2:])
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / (images.shape[-2] * images.shape[-1])
    own = np.where(is_cut, 1 - areas, own)  # the box has whole pixels, so its share is not quite the one drawn
    shares, cut, edges = (
        on_device(torch.from_numpy(values), images.device) for values in (own.astype(np.float32), is_cut, boxes)
    )
    targets = functional.one_hot(labels, num_classes).float()
    mixed = torch.lerp(images.roll(-1, 0), images, _weights(shares, cut, edges, *images.shape[-2:]))
    return mixed, torch.lerp(targets.roll(-1, 0), targets, shares[:, None])


def _boxes(
    own: npt.NDArray[np.float64], top: npt.NDArray[np.float64], left: npt.NDArray[np.float64], height: int, width: int
) -> npt.NDArray[np.int64]:
    """Return (B, 4) top, left, bottom, right of boxes of area `1 - own`, clipped at the edges of the image."""
    half = 0.5 * np.sqrt(1 - own)
    edges = [
        np.clip(np.rint(place * side + sign * half * side), 0, side)
        for sign in (-1, 1)
        for place, side in ((top, height), (left, width))
    ]
    boxes: npt.NDArray[np.int64] = np.stack(edges, axis=1).astype(np.int64)
    return boxes


def _weights(own: Tensor, is_cut: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """Return the (B, 1, H, W) weight of each image's own pixels: constant for mixup, 0 inside the box for CutMix."""
    rows, columns = (torch.arange(side, device=own.device) for side in (height, width))
    top, left, bottom, right = (edge[:, None] for edge in boxes.T)
    in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    outside = ~(in_rows[:, :, None] & in_columns[:, None, :])
    return torch.where(is_cut[:, None, None], outside.to(own.dtype), own[:, None, None])[:, None]
