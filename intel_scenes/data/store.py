"""Stored images or features of a split, and batches gathered from them on the device that holds them."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from intel_scenes.data.splits import Indices
from intel_scenes.data.transfer import on_device


class Batch(NamedTuple):
    """A batch of stored images or features.

    Attributes:
        images: (B, 3, H, W) uint8, or (B, D) features.
        labels: (B,) int64.
        indices: (B,) positions in the split, on the CPU, where the random numbers of each image are drawn.
        sizes: (B, 2) heights and widths of whole images, each placed at the top left; None for squares and features.
        neighbours: Number of images at the end that belong to another rank's slice; they are only mixed into others.
    """

    images: Tensor
    labels: Tensor
    indices: Indices
    sizes: Indices | None = None
    neighbours: int = 0

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with its images and labels on a device; indices and sizes stay on the CPU."""
        return self._replace(images=on_device(self.images, device), labels=on_device(self.labels, device))


@dataclass(frozen=True)
class Shapes:
    """Positions of images of several shapes in one array of pixels.

    Attributes:
        starts: (N,) int64, index of the first pixel of each image.
        sizes: (N, 2) int64, height and width of each image.
        corners: (N, 2) int64, top and left of the center square that evaluation sees.
        side: Side of that square.
    """

    starts: Indices
    sizes: Indices
    corners: Indices
    side: int

    def select(self, kept: npt.NDArray[np.bool_] | Indices) -> "Shapes":
        """Return the shapes of some of the images, chosen by a mask or by positions."""
        return Shapes(self.starts[kept], self.sizes[kept], self.corners[kept], self.side)


def shapes_of(sizes: Indices, side: int, crop: int) -> Shapes:
    """Return the shapes of images that are stored one after the other without gaps.

    Args:
        sizes: (N, 2) int64, height and width of each image.
        side: Side of the center square, which is the shorter side of each image.
        crop: Side of the center crop that evaluation takes of that square. The square is placed so that this crop is
            the one that torchvision's `CenterCrop` takes of the whole image.
    """
    areas = sizes.prod(axis=1)
    corners = np.rint((sizes - crop) / 2) - np.rint((side - crop) / 2)  # both round to even, as torchvision does
    return Shapes(areas.cumsum() - areas, sizes, corners.astype(np.int64), side)


@dataclass(frozen=True)
class Stored:
    """The stored pixels or frozen features of the images of one split.

    Attributes:
        values: Squares (M, S, S, 3) uint8, the pixels (P,) uint8 of whole images, or features (M, D) float32;
            memory-mapped from the cache, or resident on an accelerator.
        labels: (N,) int64, on the device of the values.
        rows: (N,) int64, index of each square or feature in `values`, which may hold images that are not selected.
        shapes: Shapes of whole images; None for squares and features.
    """

    values: Tensor
    labels: Tensor
    rows: Tensor
    shapes: Shapes | None = None

    def select(self, kept: npt.NDArray[np.bool_]) -> "Stored":
        """Return some of the images, chosen by a mask (N,); `values` is shared, not copied."""
        mask = torch.from_numpy(kept)
        shapes = self.shapes and self.shapes.select(kept)
        return Stored(self.values, self.labels[mask], self.rows[mask], shapes)

    def to(self, device: torch.device) -> "Stored":
        """Return the same images on a device, where batches are then gathered."""
        return Stored(self.values.to(device), self.labels.to(device), self.rows.to(device), self.shapes)

    def batch(self, indices: Indices) -> Batch:
        """Return a training batch: (B, 3, H, W) uint8 images in channels-last memory, or (B, D) features.

        Whole images are placed at the top left of the largest height and width in the batch; the padding is undefined.
        """
        if self.shapes is None:
            return self._of_rows(indices)
        sizes = self.shapes.sizes[indices]
        return self._of_parts(indices, np.zeros((len(indices), 2), np.int64), sizes)

    def squares(self, indices: Indices) -> Batch:
        """Return an evaluation batch: as `batch`, but of whole images their center squares (B, 3, S, S)."""
        if self.shapes is None:
            return self._of_rows(indices)
        sizes = np.full((len(indices), 2), self.shapes.side)
        return self._of_parts(indices, self.shapes.corners[indices], sizes)

    def _of_parts(self, indices: Indices, corners: Indices, sizes: Indices) -> Batch:
        """Return a part of each whole image.

        Args:
            indices: (B,) positions of the images.
            corners: (B, 2) top and left of each part.
            sizes: (B, 2) height and width of each part.
        """
        assert self.shapes is not None
        labels = self.labels[on_device(torch.from_numpy(indices), self.labels.device)]
        widths = self.shapes.sizes[indices, 1]
        starts = self.shapes.starts[indices] + corners[:, 0] * widths + corners[:, 1]
        gather = _gather_on_cpu if self.values.device.type == "cpu" else _gather_by_index
        return Batch(gather(self.values.view(-1, 3), starts, widths, sizes), labels, indices, sizes)

    def _of_rows(self, indices: Indices) -> Batch:
        chosen = on_device(torch.from_numpy(indices), self.values.device)
        rows, labels = self.rows[chosen], self.labels[chosen]
        if self.values.ndim == 2:  # features, of which a batch is small
            return Batch(self.values[rows], labels, indices)
        if self.values.device.type == "cpu":
            # numpy copies whole images, torch single values: numpy is several times as fast.
            images = torch.from_numpy(self.values.numpy()[rows.numpy()])
            return Batch(images.permute(0, 3, 1, 2), labels, indices)
        return Batch(self.values[rows].permute(0, 3, 1, 2), labels, indices)


def _gather_on_cpu(pixels: Tensor, starts: Indices, widths: Indices, sizes: Indices) -> Tensor:
    """Gather parts of whole images on a CPU, padded to one shape.

    Args:
        pixels: (P, 3) pixels of all images.
        starts: (B,) index of the first pixel of each part.
        widths: (B,) width of the image that each part belongs to.
        sizes: (B, 2) height and width of each part.
    """
    height, width = sizes.max(axis=0).tolist()
    places, stored = np.empty((len(starts), height, width, 3), np.uint8), pixels.numpy()
    parts = zip(places, starts.tolist(), widths.tolist(), sizes.tolist(), strict=True)
    for place, start, row, (rows, columns) in parts:
        strides = (3 * row, 3, 1)
        lines = np.lib.stride_tricks.as_strided(stored[start:], (rows, columns, 3), strides, writeable=False)
        place[:rows, :columns] = lines
    return torch.from_numpy(places).permute(0, 3, 1, 2)


def _gather_by_index(pixels: Tensor, starts: Indices, widths: Indices, sizes: Indices) -> Tensor:
    """Gather the same parts on an accelerator, with one indexing kernel."""
    height, width = sizes.max(axis=0).tolist()
    device = pixels.device
    first, row, rows, columns = (
        on_device(torch.from_numpy(values), device)[:, None]
        for values in (starts, widths, *np.ascontiguousarray(sizes.T))
    )
    down = torch.arange(height, device=device).minimum(rows - 1) * row  # the padding repeats the edge
    across = torch.arange(width, device=device).minimum(columns - 1)
    return pixels[(first + down)[:, :, None] + across[:, None]].permute(0, 3, 1, 2)
