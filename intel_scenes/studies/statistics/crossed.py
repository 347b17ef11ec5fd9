"""Runs that were all evaluated on the same images: their means and covariances, from which every pair follows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from intel_scenes.studies.statistics.estimates import Estimate, Side

SHARE_COMMON = 0.75  # of the larger arm's runs


@dataclass(frozen=True)
class Runs:
    """A table of runs by images, as its sufficient statistics.

    Rows are runs, of any arms; columns are images, or groups of near-identical ones, which are exchangeable. Mean
    squares of the two-way analysis of variance of any rows, or of their differences, are sums over a block of the
    covariances.

    Attributes:
        means: (R,) of each run.
        covariances: (R, R) of runs over images.
        num_images: Or of groups.
        largest: Value that a difference can have; infinite for losses.
    """

    means: npt.NDArray[np.float64]
    covariances: npt.NDArray[np.float64]
    num_images: int
    largest: float = 1.0

    @classmethod
    def of(
        cls, table: npt.NDArray[np.generic], *, groups: npt.NDArray[np.integer] | None = None, largest: float = 1.0
    ) -> "Runs":
        """From a table.

        Args:
            table: (R, N) 1 where a run has an image right, or its loss.
            groups: (N,) number of the group of near-identical images that each one is in; None where each stands for
                itself. A group is sampled as a whole, as a cluster: means stay those over images, and variances are
                those of the linearised ratio estimator of the mean per image (Cochran, "Sampling Techniques", 1977,
                chapters 6 and 9).
            largest: Value that a difference can have.
        """
        residuals = np.array(table, np.float64)  # a copy, worked on in place: of thousands of runs each one is large
        means, num_all = residuals.mean(axis=1), residuals.shape[1]
        residuals -= means[:, None]
        if groups is not None:
            order = np.argsort(groups, kind="stable")
            starts = np.flatnonzero(np.diff(groups[order], prepend=groups.min() - 1))
            residuals = np.add.reduceat(residuals[:, order], starts, axis=1) * (len(starts) / num_all)
        num_images = residuals.shape[1]
        covariances = residuals @ residuals.T
        covariances /= num_images - 1
        return cls(means, covariances, num_images, largest)

    @classmethod
    def stacked(
        cls,
        tables: Sequence[npt.NDArray[np.generic]],
        *,
        groups: npt.NDArray[np.integer] | None = None,
        largest: float = 1.0,
    ) -> "tuple[Runs, list[list[int]]]":
        """From the tables of several arms, one upon the other, with the rows of each; arguments are those of `of`."""
        ends = np.cumsum([len(table) for table in tables]).tolist()
        rows = [list(range(end - len(table), end)) for table, end in zip(tables, ends, strict=True)]
        return cls.of(np.concatenate(tables), groups=groups, largest=largest), rows

    def mean(self, rows: Sequence[int]) -> Estimate:
        """The mean of at least two runs of one configuration."""
        block, means = self._block(rows, rows), self.means[list(rows)]
        return self._estimate(float(means.mean()), float(block.mean()), self._side(means, block))

    def difference(
        self, rows_a: Sequence[int], rows_b: Sequence[int], common: Sequence[tuple[int, int]]
    ) -> Estimate | None:
        """The mean of one configuration less that of another.

        Where at least three quarters of the larger arm's runs have a partner, those without one are left out. Elsewhere
        all runs count, unpaired: they tell more than a few pairs.

        Args:
            rows_a: Runs of the one.
            rows_b: Runs of the other.
            common: Those of them that share a seed, as pairs of rows.

        Returns:
            None where a side has a single run.
        """
        smaller = min(len(rows_a), len(rows_b))
        if smaller < 2:
            return None
        if len(common) >= max(2, SHARE_COMMON * max(len(rows_a), len(rows_b))):
            return self.paired_difference([one for one, _ in common], [other for _, other in common])
        return self.unpaired_difference(rows_a, rows_b)

    def paired_difference(self, rows_a: Sequence[int], rows_b: Sequence[int]) -> Estimate:
        """Of two configurations whose runs are pairs, the same seed of each: the mean of their differences."""
        across = self._block(rows_a, rows_b)
        block = self._block(rows_a, rows_a) + self._block(rows_b, rows_b) - across - across.T
        means = self.means[list(rows_a)] - self.means[list(rows_b)]
        return self._estimate(float(means.mean()), float(block.mean()), self._side(means, block))

    def unpaired_difference(self, rows_a: Sequence[int], rows_b: Sequence[int]) -> Estimate:
        """Of two configurations with seeds of their own."""
        one, other = self.mean(rows_a), self.mean(rows_b)
        across = float(self._block(rows_a, rows_b).mean())
        images = one.images + other.images - 2 * across
        return self._estimate(one.value - other.value, images, *one.sides, *other.sides)

    def _block(self, rows_a: Sequence[int], rows_b: Sequence[int]) -> npt.NDArray[np.float64]:
        block: npt.NDArray[np.float64] = self.covariances[np.asarray(rows_a)[:, None], np.asarray(rows_b)]
        return block

    def _side(self, means: npt.NDArray[np.float64], block: npt.NDArray[np.float64]) -> Side:
        num_seeds = len(means)
        seed = self.num_images * float(means.var(ddof=1))
        rest = max(0.0, float(block.trace() - block.sum() / num_seeds)) / (num_seeds - 1)
        return Side(seed, rest, num_seeds, float(num_seeds - 1))

    def _estimate(self, value: float, images: float, *sides: Side) -> Estimate:
        return Estimate(value, max(0.0, images), sides, self.num_images, self.largest)
