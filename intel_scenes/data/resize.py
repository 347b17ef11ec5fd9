"""Cropping, antialiased resizing and normalization of whole batches.

`images` are (B, 3, H, W), uint8 as stored or float32 on the way to a network, in channels-last memory.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from intel_scenes.data.threads import for_parts
from intel_scenes.data.transfer import on_device

CHUNK = 16  # images that are resized and normalized while in the CPU's cache

Normalization = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of each channel


def crop_resize_each(
    images: Tensor,
    boxes: npt.NDArray[np.int64],
    flips: npt.NDArray[np.bool_],
    size: int,
    interpolation: str,
    normalization: Normalization | None = None,
) -> Tensor:
    """Crop and resize each image with torch's antialiased kernel, which is fastest on uint8 channels-last images.

    A few images at a time are resized and then normalized while they are in the CPU's cache, because normalizing the
    whole batch from memory costs more than the resize. A crop is flipped before the resize, which gives the same
    result and is cheaper.
    """
    num, channels = images.shape[:2]
    places = np.empty((num, size, size, channels), np.uint8 if normalization is None else np.float32)
    corners, mirrored = boxes.tolist(), flips.tolist()

    def crop(part: range) -> None:
        for start in range(part.start, part.stop, CHUNK):
            crops = []
            for index in range(start, min(start + CHUNK, part.stop)):
                top, left, height, width = corners[index]
                box = images[index : index + 1, :, top : top + height, left : left + width]
                crops.append(_resize(box.flip(-1) if mirrored[index] else box, size, interpolation))
            _write(places[start : start + len(crops)], torch.cat(crops), normalization)

    for_parts(crop, num)
    return torch.from_numpy(places).permute(0, 3, 1, 2)


def _write(places: npt.NDArray[np.generic], images: Tensor, normalization: Normalization | None) -> None:
    """Write images (B, 3, S, S) uint8 into a batch (B, S, S, 3), normalized in whole rows of memory."""
    num, size, _, channels = places.shape
    rows = places.reshape(num, size, size * channels)
    np.copyto(rows, images.permute(0, 2, 3, 1).reshape(rows.shape).numpy())  # numpy converts to float faster
    if normalization is not None:
        factors, offsets = _factors_and_offsets(*normalization, size, torch.device("cpu"))
        torch.from_numpy(rows).mul_(factors).sub_(offsets)


def crop_resize_matrix(
    images: Tensor, boxes: npt.NDArray[np.int64], flips: npt.NDArray[np.bool_], size: int, interpolation: str
) -> Tensor:
    """Crop and resize all images at once with two batched matrix products, as a resize is linear in rows and columns.

    For accelerators, where `crop_resize_each` would launch several kernels for every image. The weights are those of
    the antialiased resize of torch and Pillow.
    """
    top, left, height, width = on_device(torch.from_numpy(boxes.astype(np.float32)), images.device).unbind(1)
    rows = _resize_weights(top, height, images.shape[2], size, interpolation)
    columns = _resize_weights(left, width, images.shape[3], size, interpolation)
    mirrored = on_device(torch.from_numpy(flips), images.device)[:, None, None]
    columns = torch.where(mirrored, columns.flip(1), columns)
    resized = rows[:, None] @ images.to(torch.float32) @ columns[:, None].transpose(2, 3)
    return resized.clamp(0, 255).contiguous(memory_format=torch.channels_last)


def _resize_weights(start: Tensor, length: Tensor, side: int, size: int, interpolation: str) -> Tensor:
    """Return (B, size, side) weights of the stored pixels of a row or column in each pixel of the result."""
    scale = (length / size)[:, None, None]
    centers = (torch.arange(size, device=start.device) + 0.5)[None, :, None] * scale + start[:, None, None]
    pixels = torch.arange(side, device=start.device)[None, None, :]
    distance = ((pixels + 0.5 - centers) / scale.clamp(min=1)).abs()
    weights = _cubic(distance) if interpolation == "bicubic" else (1 - distance).clamp(min=0)
    inside = (pixels >= start[:, None, None]) & (pixels < (start + length)[:, None, None])
    weights = weights * inside
    return weights / weights.sum(2, keepdim=True)


def _cubic(distance: Tensor) -> Tensor:
    """Return Keys' cubic kernel with a = -0.5, as in the antialiased resize of torch and Pillow."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))


def resize_center(images: Tensor, resize: int, size: int, interpolation: str) -> Tensor:
    """Resize images with antialiasing and take their center crop.

    Args:
        images: (B, 3, S, S) uint8.
        resize: Side after the resize, at least `size`.
        size: Side of the center crop.
        interpolation: "bilinear" or "bicubic".

    Returns:
        (B, 3, size, size) in 0..255, uint8 on a CPU and float32 elsewhere.
    """
    start = round((resize - size) / 2)
    return resize_square(images, resize, interpolation)[..., start : start + size, start : start + size]


def resize_square(images: Tensor, size: int, interpolation: str) -> Tensor:
    """Resize (B, 3, S, S) uint8 images to (B, 3, size, size) in 0..255, uint8 on a CPU and float32 elsewhere."""
    if images.device.type == "cpu":
        return _resize(images, size, interpolation)
    # Accelerators cannot resize uint8, and a bicubic resize of floats overshoots the range.
    return _resize(images.to(torch.float32), size, interpolation).clamp(0, 255)


def _resize(images: Tensor, size: int, interpolation: str) -> Tensor:
    if images.shape[-2:] == (size, size):
        return images
    return functional.interpolate(images, (size, size), mode=interpolation, antialias=True)


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Normalize (B, 3, H, W) images in 0..255 to float32 by a mean and standard deviation given for values in 0..1."""
    num, channels, height, width = images.shape
    factors, offsets = _factors_and_offsets(mean, std, width, images.device)
    # In whole rows of channels-last memory, because three channels at a time are too few for a CPU's vector unit.
    rows = images.permute(0, 2, 3, 1).reshape(num, height, width * channels)
    normalized = (rows.to(torch.float32) * factors).sub_(offsets)
    return normalized.view(num, height, width, channels).permute(0, 3, 1, 2)


@cache
def _factors_and_offsets(
    mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the factor and the offset of each value in a row of channels-last memory."""
    with torch.inference_mode(False):  # cached inference tensors could not be used in training
        factor = torch.tensor([1 / (255 * s) for s in std], dtype=torch.float32, device=device)
        offset = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], dtype=torch.float32, device=device)
        return factor.repeat(width), offset.repeat(width)
