"""Batches of stored images, a function of (seed, epoch, image) whatever the number of devices."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from intel_scenes.data import buffers
from intel_scenes.data.buffers import on_device
from intel_scenes.data.resize import normalize, resize_center, resize_square
from intel_scenes.data.splits import Indices
from intel_scenes.data.threads import for_parts

LEAST_GATHERED = 16  # images by a thread: to copy a few is done sooner than another thread is woken

# The positions stay on the CPU, where an image's random numbers are drawn.
Batch = tuple[Tensor, Tensor, Indices]


@dataclass(frozen=True)
class View:
    """How a network sees the stored images.

    Attributes:
        size: Side of its input, in pixels.
        resize: Side to which evaluation resizes an image before it takes the middle `size`.
        interpolation: "bilinear" or "bicubic".
        mean: Of each channel, for values in 0..1.
        std: Of each channel, for values in 0..1.
    """

    size: int
    resize: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


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


def shapes_of(sizes: Indices, side: int, view: View) -> Shapes:
    """The shapes of pictures that lie one after the other without a gap.

    Args:
        sizes: (N, 2) int64, height and width of each.
        side: Of the middle square, the shorter side of each.
        view: The middle that it takes of that square is the one that torchvision's `CenterCrop` takes of the picture,
            where the square is not resized.
    """
    areas = sizes.prod(axis=1)
    crop = view.size if view.resize == side else side
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

    @property
    def are_features(self) -> bool:
        """Whether these are no pixels any more."""
        return self.values.ndim == 2

    def select(self, kept: npt.NDArray[np.bool_]) -> "Stored":
        """Some of the images, by a mask (N,); what is stored stays where it is."""
        mask = torch.from_numpy(kept)
        shapes = self.shapes and self.shapes.select(kept)
        return Stored(self.values, self.labels[mask], self.rows[mask], shapes)

    def to(self, device: torch.device) -> "Stored":
        """The same on a device, where the batches are then put together."""
        return Stored(self.values.to(device), self.labels.to(device), self.rows.to(device), self.shapes)

    def sizes(self, indices: Indices) -> Indices | None:
        """(B, 2) heights and widths of whole pictures; None for others."""
        return None if self.shapes is None else self.shapes.sizes[indices]

    def batch(self, indices: Indices) -> Batch:
        """What training takes: (B, 3, H, W) uint8 images in channels-last memory or (B, D) features, and the rest.

        H and W are those of all squares, or the greatest of these pictures: each lies in the corner at the top left,
        and what is beyond it means nothing.

        Returns:
            The images, (B,) labels, and the positions.
        """
        if self.shapes is None:
            return self._of_rows(indices)
        return self._of_parts(indices, np.zeros((len(indices), 2), np.int64), self.shapes.sizes[indices])

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
        return gather(self.values.view(-1, 3), starts, widths, sizes), labels, indices

    def _of_rows(self, indices: Indices) -> Batch:
        chosen = on_device(torch.from_numpy(indices), self.values.device)
        rows, labels = self.rows[chosen], self.labels[chosen]
        if self.are_features:  # a batch of them is small
            return self.values[rows], labels, indices
        if self.values.device.type == "cpu":
            return self._gathered(rows.numpy()), labels, indices
        return self.values[rows].permute(0, 3, 1, 2), labels, indices

    def _gathered(self, rows: npt.NDArray[np.int64]) -> Tensor:
        stored = self.values.numpy()
        result = buffers.channels_last((len(rows), *stored.shape[1:]), stored.dtype.type)
        places = result.permute(0, 2, 3, 1).numpy()

        def gather(part: range) -> None:
            own = slice(part.start, part.stop)
            np.take(stored, rows[own], axis=0, out=places[own], mode="clip")  # "raise" writes to a copy of `out` first

        for_parts(gather, len(rows), LEAST_GATHERED)
        return result


def _copied(pixels: Tensor, starts: Indices, widths: Indices, sizes: Indices) -> Tensor:
    """Parts of pictures, padded to one shape.

    Args:
        pixels: (P, 3) of all pictures.
        starts: (B,) the first pixel of each part.
        widths: (B,) of the picture that it is a part of.
        sizes: (B, 2) height and width of each part.
    """
    height, width = sizes.max(axis=0).tolist()
    result = buffers.channels_last((len(starts), height, width, 3), np.uint8)
    places, stored = result.permute(0, 2, 3, 1).numpy(), pixels.numpy()
    known = list(zip(starts.tolist(), widths.tolist(), sizes.tolist(), strict=True))

    def copy(part: range) -> None:
        for place in part:
            start, row, (rows, columns) = known[place]
            strides = (3 * row, 3, 1)
            lines = np.lib.stride_tricks.as_strided(stored[start:], (rows, columns, 3), strides, writeable=False)
            places[place, :rows, :columns] = lines

    for_parts(copy, len(starts), LEAST_GATHERED)
    return result


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


def order(seed: int, epoch: int, num_images: int) -> Indices:
    """The order in which an epoch takes the training images, a permutation of 0..num_images-1."""
    return np.random.default_rng([seed, epoch]).permutation(num_images)


@dataclass(frozen=True)
class TrainBatches:
    """One epoch of full batches; the images left over wait for another epoch, which has another order.

    `batch_size` is that of all ranks together: each takes its slice, so their number does not change which images a
    step sees. Batch norms and mixing look at a slice alone.
    """

    stored: Stored
    chosen: Indices
    batch_size: int
    seed: int
    epoch: Callable[[], int]
    rank: int = 0
    num_ranks: int = 1

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.chosen) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        """The rank's slices of the batches of the current epoch."""
        shuffled = order(self.seed, self.epoch(), len(self.chosen))
        share = self.batch_size // self.num_ranks
        for start in range(self.rank * share, len(self) * self.batch_size, self.batch_size):
            yield self.stored.batch(self.chosen[shuffled[start : start + share]])


@dataclass(frozen=True)
class EvalBatches:
    """Every chosen image once, in order, in batches of nearly equal size; with ranks, each takes every n-th image."""

    stored: Stored
    chosen: Indices
    batch_size: int
    rank: int = 0
    num_ranks: int = 1

    def __len__(self) -> int:
        """Number of batches, the same for every rank."""
        return max(1, min(-(-len(self.chosen) // self.batch_size), len(self.chosen) // self.num_ranks))

    def positions(self) -> list[Indices]:
        """The rank's share of each batch; nothing is padded or seen twice."""
        return [indices[self.rank :: self.num_ranks] for indices in np.array_split(self.chosen, len(self))]

    def __iter__(self) -> Iterator[Batch]:
        """The batches at these positions."""
        for indices in self.positions():
            yield self.stored.squares(indices)


VIEWS = {1: 1, "flip": 2, "flip_crops": 10}  # and how many each are


def views(images: Tensor, view: View, kind: int | str) -> Iterator[Tensor]:
    """The ways in which evaluation sees stored images, over which probabilities are averaged.

    Args:
        images: (B, 3, S, S) uint8.
        view: How the network sees an image.
        kind: 1 is `prepare` alone; "flip" adds its mirror image; "flip_crops" are the middle and the four corners of
            the image resized to 8/7 of the input (the ten crops of Krizhevsky et al. 2012), each with its mirror image.

    Yields:
        (B, 3, size, size) float32, normalized.
    """
    crops = [prepare(images, view)] if kind != "flip_crops" else _crops(images, view)
    for crop in crops:
        yield crop
        if kind != 1:
            yield crop.flip(-1)


def _crops(images: Tensor, view: View) -> Iterator[Tensor]:
    side = round(view.size * 8 / 7)
    resized, rest = resize_square(images, side, view.interpolation), side - view.size
    for top, left in ((rest // 2, rest // 2), (0, 0), (0, rest), (rest, 0), (rest, rest)):
        yield normalize(resized[..., top : top + view.size, left : left + view.size], view.mean, view.std)


def prepare(images: Tensor, view: View) -> Tensor:
    """Stored images as evaluation sees them: (B, 3, S, S) uint8 to (B, 3, size, size) float32, normalized."""
    return normalize(resize_center(images, view.resize, view.size, view.interpolation), view.mean, view.std)
