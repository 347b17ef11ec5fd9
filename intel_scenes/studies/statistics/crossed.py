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
        heaviest: Weight of the image that counts most in the means; 1 where all count alike.
        degrees_of_images: Of freedom, of `covariances`; None is one less than `num_images`.
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
        """From a table.

        Args:
            table: (R, N) 1 where a run has an image right, or its loss.
            groups: (N,) number of the group of near-identical images that each one is in; None where each stands for
                itself. A group is sampled as a whole, as a cluster: means stay those over images, and variances are
                those of the linearised ratio estimator of the mean per image (Cochran, "Sampling Techniques", 1977,
                chapters 6 and 9).
            strata: (N,) class of each image, for balanced accuracies: means are those over classes of the means over
                their images, and variances those of a stratified sample (Cochran, chapter 5). None for plain means.
            largest: Value that a difference can have.
        """
        residuals = np.array(table, np.float64)  # a copy, worked on in place: of thousands of runs each one is large
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
        """From the tables of several arms, one upon the other, with the rows of each; arguments are those of `of`."""
        ends = np.cumsum([len(table) for table in tables]).tolist()
        rows = [list(range(end - len(table), end)) for table, end in zip(tables, ends, strict=True)]
        return cls.of(np.concatenate(tables), groups=groups, strata=strata, largest=largest), rows

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
        weighted = self.heaviest, self.degrees_of_images
        return Estimate(value, max(0.0, images), sides, self.num_images, self.largest, *weighted)


def balancing(strata: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """(N,) weights of images, of mean 1, under which a mean is the mean over classes of those over their images.

    Args:
        strata: (N,) class of each image.
    """
    _, places, counts = np.unique(strata, return_inverse=True, return_counts=True)
    weights: npt.NDArray[np.float64] = (len(strata) / (len(counts) * counts))[places]
    return weights


def _stratify(
    table: npt.NDArray[np.float64], strata: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.float64], float, float]:
    """Means over classes of (R, N) runs, the largest weight, and the degrees of freedom of their variance over images.

    The table becomes deviations from the means of the classes, weighted so that the sum of their squares over
    N (N - 1) is the variance of a stratified mean: the mean over C classes of those of their sample means, over C. What
    classes differ in is no sampling error, because the balanced accuracy has each class in equal parts. Degrees are
    Satterthwaite's, as if images of all classes had one variance.
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
