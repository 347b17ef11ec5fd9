"""Batches of an epoch: a function of (seed, epoch, image) that does not depend on the number of devices."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from intel_scenes.data.splits import Indices
from intel_scenes.data.store import Batch, Stored


def order(seed: int, epoch: int, num_images: int) -> Indices:
    """Return the order of the training images in an epoch, a permutation of 0..num_images-1."""
    return np.random.default_rng([seed, epoch]).permutation(num_images)


@dataclass(frozen=True)
class TrainBatches:
    """The full batches of one epoch; an incomplete last batch is dropped, and each pass has a new order.

    An epoch is one or several passes over the chosen images, numbered from 0 over all epochs: two epochs of three
    passes have the batches of six epochs of one.

    `batch_size` is the global batch size: each rank takes its slice, so the number of ranks does not change which
    images a step sees. The slices of a batch differ by one image where it cannot be divided equally. With
    `with_neighbours` a slice is followed by the image after it in the global batch, which mixing needs. BatchNorm sees
    only the slice of a rank.

    `sizes`, if there are any, are the numbers of images in each batch, by pass over all epochs, in place of
    `batch_size`.
    """

    stored: Stored
    chosen: Indices
    batch_size: int
    seed: int
    epoch: Callable[[], int]
    rank: int = 0
    num_ranks: int = 1
    passes: int = 1
    sizes: Sequence[Sequence[int]] = ()
    with_neighbours: bool = False

    def __len__(self) -> int:
        """Return the number of batches."""
        return sum(len(sizes) for _, sizes in self._passes())

    def __iter__(self) -> Iterator[Batch]:
        """Yield this rank's slices of the batches of the current epoch."""
        for number, sizes in self._passes():
            if list(sizes) == [len(self.chosen)] and self.num_ranks == 1 and self.stored.values.ndim == 2:
                yield self._all_features
                continue
            shuffled, start = order(self.seed, number, len(self.chosen)), 0
            for size in sizes:
                yield self._slice(self.chosen[shuffled[start : start + size]])
                start += size

    def _slice(self, indices: Indices) -> Batch:
        """Return this rank's slice of a global batch."""
        own = np.array_split(np.arange(len(indices)), self.num_ranks)[self.rank]
        if not self.with_neighbours or self.num_ranks == 1:
            return self.stored.batch(indices[own])
        after = (own[-1] + 1) % len(indices)
        return self.stored.batch(indices[[*own, after]])._replace(neighbours=1)

    def _passes(self) -> Iterator[tuple[int, Sequence[int]]]:
        """Return the number of each pass of the current epoch, and the number of images in each of its batches."""
        first = self.epoch() * self.passes
        full_batches = [self.batch_size] * (len(self.chosen) // self.batch_size)
        # Lightning asks for the length after the last epoch, too, for which there are no `sizes`.
        passes = self.sizes[first : first + self.passes] if self.sizes else [full_batches] * self.passes
        return enumerate(passes, first)

    @cached_property
    def _all_features(self) -> Batch:
        """All features in one batch, gathered once, because its mean loss does not depend on their order.

        Images are gathered for each pass, because an image is mixed with the next one in the batch.
        """
        return self.stored.batch(self.chosen)


@dataclass(frozen=True)
class EvalBatches:
    """Every chosen image once, in order, in batches of nearly equal size; of n ranks, each takes every n-th image."""

    stored: Stored
    chosen: Indices
    batch_size: int
    rank: int = 0
    num_ranks: int = 1

    def __len__(self) -> int:
        """Return the number of batches, the same on every rank."""
        return max(1, min(-(-len(self.chosen) // self.batch_size), len(self.chosen) // self.num_ranks))

    def positions(self) -> list[Indices]:
        """Return this rank's share of each batch; no image is repeated as padding."""
        return [indices[self.rank :: self.num_ranks] for indices in np.array_split(self.chosen, len(self))]

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches at these positions."""
        for indices in self.positions():
            yield self.stored.squares(indices)
