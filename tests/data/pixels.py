"""Images with which crops and resizes are compared with torchvision's."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode

from intel_scenes.config import AugmentConfig
from intel_scenes.data.mixing import Mixing
from intel_scenes.data.pipelines import ImagePipeline, View

MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


def crops(
    scale: tuple[float, float],
    ratio: tuple[float, float],
    flip: float,
    policy: Literal["trivial", "rand"] | None = None,
) -> AugmentConfig:
    return AugmentConfig(scale, ratio, flip, policy)


WHOLE = crops((1, 1), (1, 1), flip=0)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

interpolations = pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])


def stored(num: int, side: int, seed: int = 0) -> Tensor:
    """(num, 3, side, side) uint8, channels-last: blurred noise with sharp edges, from black to white."""
    generator = np.random.default_rng(seed)
    images = []
    for _ in range(num):
        coarse = Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).copy()
        pixels[side // 3 : side // 2, side // 4 :] = generator.integers(0, 256, (side - side // 4, 3))
        pixels[:, side // 5] = 255
        images.append(pixels)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def gentle(images: Tensor) -> Tensor:
    """Half the contrast: bicubic weights overshoot 0..255 nowhere, which uint8 clips after each of two directions."""
    return images // 2 + 64


def levels_apart(one: Tensor, other: Tensor) -> float:
    assert one.shape == other.shape
    return (one.to(torch.float64) - other.to(torch.float64)).abs().max().item()


def boxes_of(*boxes: tuple[int, int, int, int]) -> npt.NDArray[np.int64]:
    return np.array(boxes, dtype=np.int64)


def pipeline(view: View, augmentation: AugmentConfig = WHOLE, *, tta: int | str = 1, seed: int = 1) -> ImagePipeline:
    return ImagePipeline(view, augmentation, Mixing(0, 0), tta, seed)
