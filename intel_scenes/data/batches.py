"""Batches of an epoch, a function of (seed, epoch, image) whatever the number of devices."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from intel_scenes.data.splits import Indices
from intel_scenes.data.store import Batch, Stored


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
