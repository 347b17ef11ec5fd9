"""Batches of an epoch: a function of (seed, epoch, image) that does not depend on the number of devices."""

import itertools
from collections.abc import Callable, Iterator
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
    images a step sees. BatchNorm and mixing see only the slice of a rank.
    """

    stored: Stored
    chosen: Indices
    batch_size: int
    seed: int
    epoch: Callable[[], int]
    rank: int = 0
    num_ranks: int = 1
    passes: int = 1

    def __len__(self) -> int:
        """Return the number of batches."""
        return self.passes * (len(self.chosen) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield this rank's slices of the batches of the current epoch."""
        if self.batch_size == len(self.chosen) and self.num_ranks == 1 and self.stored.values.ndim == 2:
            yield from itertools.repeat(self._all_features, self.passes)
            return
        share, num_used = self.batch_size // self.num_ranks, len(self.chosen) // self.batch_size * self.batch_size
        first = self.epoch() * self.passes
        for number in range(first, first + self.passes):
            shuffled = order(self.seed, number, len(self.chosen))
            for start in range(self.rank * share, num_used, self.batch_size):
                yield self.stored.batch(self.chosen[shuffled[start : start + share]])

    @cached_property
    def _all_features(self) -> Batch:
        """All features in one batch, gathered once: in every order its loss is the same mean.

        Images are gathered for each pass, because the next one in the batch is what an image is mixed with.
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
