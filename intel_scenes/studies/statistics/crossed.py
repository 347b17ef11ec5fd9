"""Means and covariances of runs evaluated on the same images: sufficient statistics for every comparison."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from intel_scenes.studies.statistics.estimates import Estimate, Side

SHARE_COMMON = 0.75  # of the larger arm's runs


@dataclass(frozen=True)
class Runs:
    """Sufficient statistics of a table of runs by images.

    Rows are runs of any arms. Columns are images, or clusters of near-duplicate images, and are exchangeable. The mean
    squares of a two-way analysis of variance of any rows, or of their differences, are sums over a block of the
    covariances.

    Attributes:
        means: (R,) mean of each run.
        covariances: (R, R) covariances of the runs over images.
        num_images: Number of images, or of clusters.
        largest: Largest absolute value that a difference can have; infinite for losses.
        heaviest: Largest weight of an image in the means; 1 where all images have equal weight.
        degrees_of_images: Degrees of freedom of `covariances`; None means `num_images - 1`.
    """

    means: npt.NDArray[np.float64]
    covariances: npt.NDArray[np.float64]
    num_images: int
    largest: float = 1.0
    heaviest: float = 1.0
    degrees_of_images: float | None = None

    @classmethod
    def of(
        cls,
        table: npt.NDArray[np.generic],
        *,
        groups: npt.NDArray[np.integer] | None = None,
        strata: npt.NDArray[np.integer] | None = None,
        largest: float = 1.0,
    ) -> "Runs":
        """Compute the statistics of a table.

        Args:
            table: (R, N) 1 where a run classifies an image correctly, else 0; or losses.
            groups: (N,) cluster index of each image, for near-duplicates; None where all images are independent. A
                cluster is sampled as a whole: means remain means over images, and variances are those of the
                linearised ratio estimator of the mean per image (Cochran, "Sampling Techniques", 1977, chapters 6
                and 9).
            strata: (N,) class of each image, for balanced accuracy: means are averages over classes of the class means,
                and variances are those of a stratified sample (Cochran, chapter 5). None for plain means.
            largest: Largest absolute value that a difference can have.
        """
        residuals = np.array(table, np.float64)  # one copy, modified in place: with thousands of runs it is large
        num_all, heaviest, degrees = residuals.shape[1], 1.0, None
        if strata is None:
            means = residuals.mean(axis=1)
            residuals -= means[:, None]
        else:
            means, heaviest, degrees = _stratify(residuals, strata)
        if groups is not None:
            order = np.argsort(groups, kind="stable")
            starts = np.flatnonzero(np.diff(groups[order], prepend=groups.min() - 1))
            residuals = np.add.reduceat(residuals[:, order], starts, axis=1) * (len(starts) / num_all)
        num_images = residuals.shape[1]
        covariances = residuals @ residuals.T
        covariances /= num_images - 1
        return cls(means, covariances, num_images, largest, heaviest, degrees)

    @classmethod
    def stacked(
        cls,
        tables: Sequence[npt.NDArray[np.generic]],
        *,
        groups: npt.NDArray[np.integer] | None = None,
        strata: npt.NDArray[np.integer] | None = None,
        largest: float = 1.0,
    ) -> "tuple[Runs, list[list[int]]]":
        """Stack the tables of several arms; return the statistics and the rows of each arm. Arguments as in `of`."""
        ends = np.cumsum([len(table) for table in tables]).tolist()
        rows = [list(range(end - len(table), end)) for table, end in zip(tables, ends, strict=True)]
        return cls.of(np.concatenate(tables), groups=groups, strata=strata, largest=largest), rows

    def mean(self, rows: Sequence[int]) -> Estimate:
        """Estimate the mean of one configuration from at least two runs."""
        block, means = self._block(rows, rows), self.means[list(rows)]
        return self._estimate(float(means.mean()), float(block.mean()), self._side(means, block))

    def difference(
        self, rows_a: Sequence[int], rows_b: Sequence[int], common: Sequence[tuple[int, int]]
    ) -> Estimate | None:
        """Estimate the mean of configuration A minus the mean of configuration B.

        The difference is paired, without the runs that lack a partner, where at least three quarters of the larger
        configuration's runs have one. Otherwise all runs are used unpaired, which is more precise than a few pairs.

        Args:
            rows_a: Runs of A.
            rows_b: Runs of B.
            common: Pairs of rows that share a seed.

        Returns:
            None where A or B has fewer than two runs.
        """
        if min(len(rows_a), len(rows_b)) < 2:
            return None
        if len(common) >= max(2, SHARE_COMMON * max(len(rows_a), len(rows_b))):
            return self.paired_difference([row for row, _ in common], [row for _, row in common])
        return self.unpaired_difference(rows_a, rows_b)

    def paired_difference(self, rows_a: Sequence[int], rows_b: Sequence[int]) -> Estimate:
        """Estimate the mean of the differences between runs paired by seed."""
        across = self._block(rows_a, rows_b)
        block = self._block(rows_a, rows_a) + self._block(rows_b, rows_b) - across - across.T
        means = self.means[list(rows_a)] - self.means[list(rows_b)]
        return self._estimate(float(means.mean()), float(block.mean()), self._side(means, block))

    def unpaired_difference(self, rows_a: Sequence[int], rows_b: Sequence[int]) -> Estimate:
        """Estimate the difference of two configurations with independent seeds."""
        mean_a, mean_b = self.mean(rows_a), self.mean(rows_b)
        across = float(self._block(rows_a, rows_b).mean())
        images = mean_a.images + mean_b.images - 2 * across
        return self._estimate(mean_a.value - mean_b.value, images, *mean_a.sides, *mean_b.sides)

    def _block(self, rows_a: Sequence[int], rows_b: Sequence[int]) -> npt.NDArray[np.float64]:
        block: npt.NDArray[np.float64] = self.covariances[np.asarray(rows_a)[:, None], np.asarray(rows_b)]
        return block

    def _side(self, means: npt.NDArray[np.float64], block: npt.NDArray[np.float64]) -> Side:
        num_seeds = len(means)
        seed = self.num_images * float(means.var(ddof=1))
        rest = max(0.0, float(block.trace() - block.sum() / num_seeds)) / (num_seeds - 1)
        return Side(seed, rest, num_seeds, float(num_seeds - 1))

    def _estimate(self, value: float, images: float, *sides: Side) -> Estimate:
        weighting = self.heaviest, self.degrees_of_images
        return Estimate(value, max(0.0, images), sides, self.num_images, self.largest, *weighting)


def balancing(strata: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Return (N,) image weights with mean 1 that turn a mean over images into an average of class means.

    Args:
        strata: (N,) class of each image.
    """
    _, classes, counts = np.unique(strata, return_inverse=True, return_counts=True)
    weights: npt.NDArray[np.float64] = (len(strata) / (len(counts) * counts))[classes]
    return weights


def _stratify(
    table: npt.NDArray[np.float64], strata: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.float64], float, float]:
    """Return the average class mean of (R, N) runs, the largest weight, and the degrees of freedom over images.

    The table is replaced by deviations from the class means, weighted so that the sum of their squares over N (N - 1)
    is the variance of a stratified mean: the average over C classes of the variances of their sample means, over C.
    Differences between classes are no sampling error, because balanced accuracy weighs every class equally. The degrees
    of freedom are Satterthwaite's under equal variances of the images of all classes.
    """
    num_images = table.shape[1]
    classes, counts = np.unique(strata, return_counts=True)
    weights = num_images / (len(classes) * counts)
    scales = weights * np.sqrt(counts / np.maximum(counts - 1, 1) * (num_images - 1) / num_images)
    means = np.zeros(len(table))
    for label, scale in zip(classes, scales, strict=True):
        columns = np.flatnonzero(strata == label)
        of_class = table[:, columns].mean(axis=1)
        table[:, columns] = scale * (table[:, columns] - of_class[:, None])
        means += of_class / len(classes)
    degrees = (1 / counts).sum() ** 2 / (1 / counts**2 / np.maximum(counts - 1, 1)).sum()
    return means, float(weights.max()), float(degrees)
