"""What a training image goes through: a function of the image, and of numbers drawn for it beforehand."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.transforms import v2

from intel_scenes.config import AugmentConfig
from intel_scenes.data import jitter
from intel_scenes.data.resize import Normalization, crop_resize_each, crop_resize_matrix, normalize
from intel_scenes.data.splits import Indices
from intel_scenes.data.transfer import on_device

Draws = npt.NDArray[np.float64]

# What an image draws for one epoch: `ATTEMPTS` candidate boxes of (area, ratio, top, left), the flip, and the seed of
# its policy.
ATTEMPTS = 10
NUM_DRAWS = 4 * ATTEMPTS + 2

POLICIES: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "trivial": lambda: v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR),
    "rand": lambda: v2.RandAugment(interpolation=v2.InterpolationMode.BILINEAR),
}


def draw(seed: int, epoch: int, indices: npt.NDArray[np.int64], num_draws: int = NUM_DRAWS) -> Draws:
    """Random numbers that depend on (seed, epoch, image) alone, whatever batch or process an image is in.

    A counter is hashed with the finalizer of SplitMix64 (Steele et al., "Fast Splittable Pseudorandom Number
    Generators", 2014); a generator of its own for each image would cost more than its crop.

    Args:
        seed: Of the run.
        epoch: From 0.
        indices: (B,) int64, the images' positions in the training set.
        num_draws: Numbers for each image.

    Returns:
        (B, num_draws) float64, uniform on [0, 1).
    """
    epoch_key = _mix(_mix(np.array([seed], dtype=np.uint64)) + np.uint64(epoch))
    # Added as they are, int64 and uint64 make float64, which rounds the image number away.
    stream = _mix(epoch_key + indices.astype(np.uint64))[:, None]
    counters = stream + np.arange(num_draws, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (_mix(counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def crop_boxes(draws: Draws, sizes: Indices | int, augmentation: AugmentConfig) -> npt.NDArray[np.int64]:
    """Boxes of random resized crops (Szegedy et al. 2015), distributed as torchvision's `RandomResizedCrop` draws them.

    Args:
        draws: (B, 4 * ATTEMPTS) or more, uniform on [0, 1).
        sizes: (B, 2) heights and widths of the images, or the side of squares.
        augmentation: Of which scale and ratio are used.

    Returns:
        (B, 4) int64: top, left, height, width, inside the image. The first of an image's candidates that fits; where
        none does, the largest middle box whose ratio is allowed.
    """
    area, ratio, top, left = np.moveaxis(draws[:, : 4 * ATTEMPTS].reshape(-1, ATTEMPTS, 4), 2, 0)
    (low_scale, high_scale), (low_ratio, high_ratio) = augmentation.scale, augmentation.ratio
    height, width = np.broadcast_to(sizes, (len(draws), 2)).T[:, :, None]  # each (B, 1)
    areas = height * width * (low_scale + area * (high_scale - low_scale))
    ratios = np.exp(np.log(low_ratio) + ratio * (np.log(high_ratio) - np.log(low_ratio)))
    widths, heights = np.rint(np.sqrt(areas * ratios)), np.rint(np.sqrt(areas / ratios))
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    tops, lefts = np.floor(top * (height - heights + 1)), np.floor(left * (width - widths + 1))
    candidates = np.stack([tops, lefts, heights, widths], axis=2)
    boxes: npt.NDArray[np.int64] = candidates[np.arange(len(draws)), fits.argmax(axis=1)].astype(np.int64)
    heights, widths = np.minimum(height, np.rint(width / low_ratio)), np.minimum(width, np.rint(height * high_ratio))
    middle = np.concatenate([(height - heights) // 2, (width - widths) // 2, heights, widths], axis=1)
    return np.where(fits.any(axis=1)[:, None], boxes, middle.astype(np.int64))


def augment(
    images: Tensor,
    draws: Draws,
    augmentation: AugmentConfig,
    size: int,
    interpolation: str,
    normalization: Normalization | None = None,
    sizes: Indices | None = None,
    jitter_draws: Draws | None = None,
) -> Tensor:
    """Random crops resized with antialiasing, some of them mirrored, after the operations of a policy.

    Angles and colours change after the crop, and the vertical flip comes last.

    Args:
        images: (B, 3, H, W) uint8.
        draws: (B, NUM_DRAWS) from `draw`.
        augmentation: What to draw.
        size: Side of the result.
        interpolation: "bilinear" or "bicubic".
        normalization: Mean and standard deviation of each channel, as `normalize` takes them.
        sizes: (B, 2), height and width of each image, which begins at the top left; None for squares without a margin.
        jitter_draws: (B, jitter.NUM_DRAWS) from `draw`, for angles, colours and the vertical flip; may be None where
            the augmentation has none of these.

    Returns:
        (B, 3, size, size): float32 and normalized; without `normalization` in the range of the images, uint8 on a CPU
        where no angle or colour changes, and float32 elsewhere.
    """
    boxes = crop_boxes(draws, images.shape[-1] if sizes is None else sizes, augmentation)
    flips = draws[:, 4 * ATTEMPTS] < augmentation.flip
    if augmentation.policy:
        images = by_policy(images, draws[:, 4 * ATTEMPTS + 1], augmentation.policy, sizes)
    is_normalized_at_once = images.device.type == "cpu" and not augmentation.has_jitter
    if images.device.type == "cpu":
        at_once = normalization if is_normalized_at_once else None
        crops = crop_resize_each(images, boxes, flips, size, interpolation, at_once)
    else:
        crops = crop_resize_matrix(images, boxes, flips, size, interpolation)
    if augmentation.has_jitter:
        assert jitter_draws is not None, "angles and colours are drawn"
        crops = jitter.jitter(crops, jitter_draws, augmentation)
    if normalization is not None and not is_normalized_at_once:
        crops = normalize(crops, *normalization)
    if augmentation.vertical_flip:
        assert jitter_draws is not None, "vertical flips are drawn"
        flipped = torch.from_numpy(jitter_draws[:, jitter.UPSIDE_DOWN] < augmentation.vertical_flip)
        flipped = on_device(flipped, images.device)
        crops[flipped] = crops[flipped].flip(-2)
    return crops


def by_policy(images: Tensor, draws: Draws, policy: str, sizes: Indices | None = None) -> Tensor:
    """Each image changed by torchvision's operations, which depend on its own number alone.

    Args:
        images: (B, 3, H, W) uint8.
        draws: (B,), uniform on [0, 1).
        policy: One of `POLICIES`.
        sizes: As `augment` takes them.

    Returns:
        (B, 3, H, W) uint8 in channels-last memory.
    """
    change, device = POLICIES[policy](), images.device
    images = images.cpu()  # one wait of an accelerator for a batch, not one for each operation on an image
    result = torch.empty_like(images, memory_format=torch.channels_last)
    with torch.random.fork_rng(devices=[]):  # they draw from the global generator, on the CPU
        for index, seed in enumerate((draws * 2**53).astype(np.int64).tolist()):
            height, width = images.shape[-2:] if sizes is None else sizes[index]
            torch.default_generator.manual_seed(seed)
            result[index, :, :height, :width] = change(images[index, :, :height, :width])
    return on_device(result, device)
