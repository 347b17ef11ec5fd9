"""Augmentation of training images: a function of the images and of random numbers drawn for them beforehand."""

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

# Random numbers of an image in one epoch: `ATTEMPTS` candidate boxes of (area, ratio, top, left), the flip, and the
# seed of its policy.
ATTEMPTS = 10
NUM_DRAWS = 4 * ATTEMPTS + 2

POLICIES: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "trivial": lambda: v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR),
    "rand": lambda: v2.RandAugment(interpolation=v2.InterpolationMode.BILINEAR),
}


def uniform_draws(seed: int, epoch: int, indices: npt.NDArray[np.int64], num_draws: int = NUM_DRAWS) -> Draws:
    """Return random numbers that depend only on (seed, epoch, image), not on the batch or process of the image.

    A counter is hashed with the finalizer of SplitMix64 (Steele et al., "Fast Splittable Pseudorandom Number
    Generators", 2014), because a generator for each image would cost more than its crop.

    Args:
        seed: Seed of the run.
        epoch: Epoch, from 0.
        indices: (B,) int64, positions of the images in the training set.
        num_draws: Number of random numbers for each image.

    Returns:
        (B, num_draws) float64, uniform on [0, 1).
    """
    epoch_key = _mix(_mix(np.array([seed], dtype=np.uint64)) + np.uint64(epoch))
    # int64 + uint64 would be float64, which rounds the position of the image away.
    stream = _mix(epoch_key + indices.astype(np.uint64))[:, None]
    counters = stream + np.arange(num_draws, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (_mix(counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def crop_boxes(draws: Draws, sizes: Indices | int, augmentation: AugmentConfig) -> npt.NDArray[np.int64]:
    """Return boxes of random resized crops (Szegedy et al. 2015), distributed as in torchvision's `RandomResizedCrop`.

    Args:
        draws: (B, 4 * ATTEMPTS) or more, uniform on [0, 1).
        sizes: (B, 2) heights and widths of the images, or the side of square images.
        augmentation: Augmentation whose `scale` and `ratio` are used.

    Returns:
        (B, 4) int64: top, left, height and width inside the image. The first candidate of an image that fits; if none
        does, the largest center box whose ratio is allowed.
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
    """Augment a batch: policy, random resized crop, horizontal flip, rotation, color jitter, then vertical flip.

    Args:
        images: (B, 3, H, W) uint8.
        draws: (B, NUM_DRAWS) from `uniform_draws`.
        augmentation: Ranges and probabilities of the operations.
        size: Side of the result in pixels.
        interpolation: "bilinear" or "bicubic".
        normalization: Mean and standard deviation of each channel, as in `normalize`; None does not normalize.
        sizes: (B, 2), height and width of each image, which is placed at the top left; None for unpadded squares.
        jitter_draws: (B, jitter.NUM_DRAWS) from `uniform_draws`, for rotation, color jitter and vertical flip; may be
            None if the augmentation has none of these.

    Returns:
        (B, 3, size, size): normalized float32; without `normalization` values in 0..255, uint8 on a CPU without
        rotation and color jitter, else float32.
    """
    boxes = crop_boxes(draws, images.shape[-1] if sizes is None else sizes, augmentation)
    flips = draws[:, 4 * ATTEMPTS] < augmentation.flip
    if augmentation.policy:
        images = by_policy(images, draws[:, 4 * ATTEMPTS + 1], augmentation.policy, sizes)
    is_normalized_with_crop = images.device.type == "cpu" and not augmentation.has_jitter
    if images.device.type == "cpu":
        with_crop = normalization if is_normalized_with_crop else None
        crops = crop_resize_each(images, boxes, flips, size, interpolation, with_crop)
    else:
        crops = crop_resize_matrix(images, boxes, flips, size, interpolation)
    if augmentation.has_jitter:
        assert jitter_draws is not None, "rotation and color jitter need jitter_draws"
        crops = jitter.jitter(crops, jitter_draws, augmentation)
    if normalization is not None and not is_normalized_with_crop:
        crops = normalize(crops, *normalization)
    if augmentation.vertical_flip:
        assert jitter_draws is not None, "vertical flips need jitter_draws"
        flipped = torch.from_numpy(jitter_draws[:, jitter.UPSIDE_DOWN] < augmentation.vertical_flip)
        flipped = on_device(flipped, images.device)[:, None, None, None]
        crops = torch.where(flipped, crops.flip(-2), crops)  # indexing by the mask would wait for the device
    return crops


def by_policy(images: Tensor, draws: Draws, policy: str, sizes: Indices | None = None) -> Tensor:
    """Apply torchvision's augmentation policy to each image, seeded by the image's own random number.

    Args:
        images: (B, 3, H, W) uint8.
        draws: (B,), uniform on [0, 1).
        policy: One of `POLICIES`.
        sizes: As in `augment`.

    Returns:
        (B, 3, H, W) uint8 in channels-last memory.
    """
    change, device = POLICIES[policy](), images.device
    images = images.cpu()  # one synchronization per batch, not one for each operation on an image
    result = torch.empty_like(images, memory_format=torch.channels_last)
    with torch.random.fork_rng(devices=[]):  # the policies draw from the global CPU generator
        for index, seed in enumerate((draws * 2**53).astype(np.int64).tolist()):
            height, width = images.shape[-2:] if sizes is None else sizes[index]
            torch.default_generator.manual_seed(seed)
            result[index, :, :height, :width] = change(images[index, :, :height, :width])
    return on_device(result, device)
