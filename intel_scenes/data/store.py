"""What is stored of the images of a split, and batches of it put together where it lies."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from intel_scenes.data.splits import Indices
from intel_scenes.data.transfer import on_device


class Batch(NamedTuple):
    """Some images of a split as they are stored.

    Attributes:
        images: (B, 3, H, W) uint8, or (B, D) features.
        labels: (B,) int64.
        indices: (B,) positions in the split, on the CPU, where an image's random numbers are drawn.
        sizes: (B, 2) heights and widths of whole pictures, which begin at the top left; None for others.
    """

    images: Tensor
    labels: Tensor
    indices: Indices
    sizes: Indices | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same on a device; what is drawn and measured by stays on the CPU."""
        return self._replace(images=on_device(self.images, device), labels=on_device(self.labels, device))


@dataclass(frozen=True)
class Shapes:
    """Where pictures of several shapes lie, one after the other.

    Attributes:
        starts: (N,) int64, the first pixel of each.
        sizes: (N, 2) int64, height and width of each.
        corners: (N, 2) int64, top and left of the middle square that evaluation sees of each.
        side: Of that square.
    """

    starts: Indices
    sizes: Indices
    corners: Indices
    side: int

    def select(self, kept: npt.NDArray[np.bool_] | Indices) -> "Shapes":
        """Some of the pictures, by a mask or positions; all stay where they lie."""
        return Shapes(self.starts[kept], self.sizes[kept], self.corners[kept], self.side)


def shapes_of(sizes: Indices, side: int, crop: int) -> Shapes:
    """The shapes of pictures that lie one after the other without a gap.

    Args:
        sizes: (N, 2) int64, height and width of each.
        side: Of the middle square, the shorter side of each.
        crop: Side of the middle that evaluation takes of that square: it is the one that torchvision's `CenterCrop`
            takes of the picture.
    """
    areas = sizes.prod(axis=1)
    corners = np.rint((sizes - crop) / 2) - np.rint((side - crop) / 2)  # both round to even, as torchvision does
    return Shapes(areas.cumsum() - areas, sizes, corners.astype(np.int64), side)


@dataclass(frozen=True)
class Stored:
    """What is stored of the images of one split: their pixels, or what a frozen backbone makes of them.

    Attributes:
        values: Squares (M, S, S, 3) uint8, the pixels (P,) uint8 of whole pictures, or features (M, D) float32; mapped
            from a cache, or whole on an accelerator.
        labels: (N,) int64, where the values are.
        rows: (N,) int64, the place of each square or feature in `values`: those that cannot be decoded are passed over.
        shapes: Of whole pictures; None for others.
    """

    values: Tensor
    labels: Tensor
    rows: Tensor
    shapes: Shapes | None = None

    def select(self, kept: npt.NDArray[np.bool_]) -> "Stored":
        """Some of the images, by a mask (N,); what is stored stays where it is."""
        mask = torch.from_numpy(kept)
        shapes = self.shapes and self.shapes.select(kept)
        return Stored(self.values, self.labels[mask], self.rows[mask], shapes)

    def to(self, device: torch.device) -> "Stored":
        """The same on a device, where the batches are then put together."""
        return Stored(self.values.to(device), self.labels.to(device), self.rows.to(device), self.shapes)

    def batch(self, indices: Indices) -> Batch:
        """What training takes: (B, 3, H, W) uint8 images in channels-last memory, or (B, D) features.

        H and W are those of all squares, or the greatest of these pictures: each lies in the corner at the top left,
        and what is beyond it means nothing.
        """
        if self.shapes is None:
            return self._of_rows(indices)
        sizes = self.shapes.sizes[indices]
        return self._of_parts(indices, np.zeros((len(indices), 2), np.int64), sizes)

    def squares(self, indices: Indices) -> Batch:
        """What evaluation takes: the same, of pictures their middle squares (B, 3, S, S)."""
        if self.shapes is None:
            return self._of_rows(indices)
        sizes = np.full((len(indices), 2), self.shapes.side)
        return self._of_parts(indices, self.shapes.corners[indices], sizes)

    def _of_parts(self, indices: Indices, corners: Indices, sizes: Indices) -> Batch:
        """A part of each picture, from a corner on, (B, 2) of top and left, of sizes (B, 2)."""
        assert self.shapes is not None
        labels = self.labels[on_device(torch.from_numpy(indices), self.labels.device)]
        widths = self.shapes.sizes[indices, 1]
        starts = self.shapes.starts[indices] + corners[:, 0] * widths + corners[:, 1]
        gather = _copied if self.values.device.type == "cpu" else _looked_up
        return Batch(gather(self.values.view(-1, 3), starts, widths, sizes), labels, indices, sizes)

    def _of_rows(self, indices: Indices) -> Batch:
        chosen = on_device(torch.from_numpy(indices), self.values.device)
        rows, labels = self.rows[chosen], self.labels[chosen]
        if self.values.ndim == 2:  # features, of which a batch is small
            return Batch(self.values[rows], labels, indices)
        if self.values.device.type == "cpu":
            # numpy copies whole images, where torch copies numbers: several times as fast.
            images = torch.from_numpy(self.values.numpy()[rows.numpy()])
            return Batch(images.permute(0, 3, 1, 2), labels, indices)
        return Batch(self.values[rows].permute(0, 3, 1, 2), labels, indices)


def _copied(pixels: Tensor, starts: Indices, widths: Indices, sizes: Indices) -> Tensor:
    """Parts of pictures, padded to one shape.

    Args:
        pixels: (P, 3) of all pictures.
        starts: (B,) the first pixel of each part.
        widths: (B,) of the picture that it is a part of.
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


def _looked_up(pixels: Tensor, starts: Indices, widths: Indices, sizes: Indices) -> Tensor:
    """The same on an accelerator, in one kernel."""
    height, width = sizes.max(axis=0).tolist()
    device = pixels.device
    first, row, rows, columns = (
        on_device(torch.from_numpy(values), device)[:, None]
        for values in (starts, widths, *np.ascontiguousarray(sizes.T))
    )
    down = torch.arange(height, device=device).minimum(rows - 1) * row  # what is beyond repeats the edge
    across = torch.arange(width, device=device).minimum(columns - 1)
    return pixels[(first + down)[:, :, None] + across[:, None]].permute(0, 3, 1, 2)
