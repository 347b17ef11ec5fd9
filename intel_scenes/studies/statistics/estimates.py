"""Accuracies and their differences, with the spread of seeds and the finite number of test images in one interval.

A table of a configuration has a row for each seed and a column for each test image, 1 where the image is right. Seeds
and images are both samples, and crossed: every seed sees every image. The variance of the mean of such a table, and the
degrees of freedom of its estimate, are those of a two-way random effects model (Searle, Casella and McCulloch,
"Variance Components", 1992; Satterthwaite, Biometrics Bulletin 2, 1946).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Table = npt.NDArray[np.float32]  # (seeds, images), 0 to 1
RULE_OF_THREE = 3.0  # where none of n images differs, at most 3 in n do (Hanley and Lippman-Hand, JAMA 249, 1983)


@dataclass(frozen=True)
class Components:
    """Where the variance of a mean over `num_seeds` seeds and `num_images` images comes from.

    It is `seed / num_seeds + image / num_images + rest / (num_seeds * num_images)`.

    Attributes:
        seed: Variance from seed to seed, beyond what the images explain.
        image: Variance from image to image, beyond what one seed explains.
        rest: Variance of one image in one run that neither explains.
        num_images: Of the test split.
    """

    seed: float
    image: float
    rest: float
    num_images: int

    def variance(self, num_seeds: int) -> float:
        """Of the mean, with so many seeds."""
        return self.seed / num_seeds + self.image / self.num_images + self.rest / (num_seeds * self.num_images)

    def degrees_of_freedom(self, num_seeds: int, *, prior: float = 0.0, is_paired: bool = True) -> float:
        """What Satterthwaite's formula gives for the mean squares that are expected with so many seeds.

        Args:
            num_seeds: Of each configuration.
            prior: Degrees that a family adds.
            is_paired: The seeds of the two configurations are pairs.
        """
        seeds = (num_seeds - 1 + prior) * (1 if is_paired else 2)
        squares = (
            (self.num_images * self.seed + self.rest, seeds),
            (num_seeds * self.image + self.rest, self.num_images - 1),
            (self.rest, seeds * (self.num_images - 1)),
        )
        scale = num_seeds * self.num_images
        signs = (1, 1, -1)
        return _satterthwaite(
            [(sign * square / scale, degrees) for sign, (square, degrees) in zip(signs, squares, strict=True)]
        )


@dataclass(frozen=True)
class Side:
    """What seeds contribute to an estimate: of a configuration, or of the differences of two whose seeds are paired.

    Attributes:
        seed: Mean square of the seeds.
        rest: Mean square of what neither seeds nor images explain.
        num_seeds: Rows of the table.
        degrees: Of freedom, of `seed`.
    """

    seed: float
    rest: float
    num_seeds: int
    degrees: float


@dataclass(frozen=True)
class Estimate:
    """A mean accuracy or a difference of two, as a fraction, with what its variance is made of.

    With n images, S seeds and the mean squares MS of a side, the variance is
    images / n + sum over sides of max(0, MS_seed - MS_rest) / (S n); with one side that is
    (MS_seed + MS_image - MS_rest) / (S n). Where the component of the images comes out negative it is left out too.

    Attributes:
        value: The mean.
        images: Variance from image to image of the means over seeds.
        sides: One, or two where the seeds are not paired.
        num_images: Of the split.
        largest: Value that there can be, up and down; that of a loss has no end.
    """

    value: float
    images: float
    sides: tuple[Side, ...]
    num_images: int
    largest: float = 1.0

    @cached_property
    def _terms(self) -> list[tuple[float, float]]:
        """Mean squares with their factors and degrees of freedom, whose sum is the variance."""
        num = self.num_images
        if self.images <= sum(side.rest / side.num_seeds for side in self.sides):
            return [(max(side.seed, side.rest) / (side.num_seeds * num), side.degrees) for side in self.sides]
        terms = [(self.images / num, float(num - 1))]
        for side in self.sides:
            if side.seed > side.rest or side.num_seeds == 2:  # two that happen to be alike tell nothing of the spread
                scale = side.num_seeds * num
                seed = max(side.seed, side.rest)
                terms += [(seed / scale, side.degrees), (-side.rest / scale, side.degrees * (num - 1))]
        return terms

    @cached_property
    def variance(self) -> float:
        """Of the value; where no run and no image differs, so that a 95 % interval reaches to 3 in n."""
        found = sum(square for square, _ in self._terms)
        floor = float(RULE_OF_THREE / special.ndtri(0.975) / self.num_images) ** 2
        return found if found > 1e-15 else floor

    @cached_property
    def degrees_of_freedom(self) -> float:
        """Of Student's t."""
        is_constant = all(square <= 1e-15 for square, _ in self._terms)
        return float(self.num_images - 1) if is_constant else _satterthwaite(self._terms)

    @property
    def components(self) -> Components:
        """What other numbers of seeds would give; where the sides differ in theirs, as many on each."""
        rest = sum(side.rest for side in self.sides)
        seed = sum(max(0.0, side.seed - side.rest) for side in self.sides) / self.num_images
        image = max(0.0, self.images - sum(side.rest / side.num_seeds for side in self.sides))
        return Components(seed, image, rest, self.num_images)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student's interval around the value."""
        half = float(special.stdtrit(self.degrees_of_freedom, (1 + level) / 2)) * math.sqrt(self.variance)
        return max(-self.largest, self.value - half), min(self.largest, self.value + half)

    def p_value(self) -> float:
        """Two-sided, of a true value of 0."""
        below = self.p_below(0.0)
        return min(1.0, 2 * min(below, 1 - below))

    def p_below(self, bound: float) -> float:
        """One-sided, of a true value of `bound` or more: small where the value lies far below."""
        return float(special.stdtr(self.degrees_of_freedom, (self.value - bound) / math.sqrt(self.variance)))


def wilson(num_right: int, num_images: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of the accuracy of one run over images (Wilson, JASA 22, 1927)."""
    found = stats.binomtest(num_right, num_images).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)


def mean_accuracy(table: Table) -> Estimate:
    """The mean of a table of at least two seeds and two images."""
    by_image = table.mean(axis=0, dtype=np.float64)
    return Estimate(float(by_image.mean()), float(by_image.var(ddof=1)), (_side(table),), table.shape[1])


def paired_difference(one: Table, other: Table) -> Estimate:
    """Of two tables whose rows are pairs, the same seed of two configurations: the mean of the table of differences."""
    return mean_accuracy(one - other)


def unpaired_difference(one: Table, other: Table) -> Estimate:
    """Of two tables with the same images and seeds of their own, at least two on each side."""
    by_image = one.mean(axis=0, dtype=np.float64) - other.mean(axis=0, dtype=np.float64)
    sides = (_side(one), _side(other))
    return Estimate(float(by_image.mean()), float(by_image.var(ddof=1)), sides, one.shape[1])


def _side(table: Table) -> Side:
    """The mean squares of the two-way analysis of variance without replication."""
    num_seeds, num_images = table.shape
    by_seed, by_image = table.mean(axis=1, dtype=np.float64), table.mean(axis=0, dtype=np.float64)
    mean = float(by_image.mean())
    of_seeds = num_images * float(np.square(by_seed - mean).sum())
    of_images = num_seeds * float(np.square(by_image - mean).sum())
    in_all = float(np.square(table).sum(dtype=np.float64)) - num_seeds * num_images * mean**2
    rest = max(0.0, in_all - of_seeds - of_images)
    return Side(
        of_seeds / (num_seeds - 1), rest / ((num_seeds - 1) * (num_images - 1)), num_seeds, float(num_seeds - 1)
    )


def _satterthwaite(terms: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of mean squares, some of them taken away; not fewer than the fewest of a term."""
    variance = sum(square for square, _ in terms)
    spread = sum(square**2 / degrees for square, degrees in terms)
    fewest = min(degrees for _, degrees in terms)
    return max(variance**2 / spread, fewest) if spread else fewest


def mcnemar(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> tuple[int, int, float]:
    """Of two runs: images that only the one has right, only the other, and the exact p of equal chances.

    McNemar's test (Psychometrika 12, 1947). It is about these two runs: it says nothing about other seeds.
    """
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    discordant = only_one + only_other
    return only_one, only_other, float(stats.binomtest(only_one, discordant).pvalue) if discordant else 1.0


def probability_of_better(
    one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], *, is_paired: bool
) -> tuple[float, float, float]:
    """P(A > B) over pairs of runs, ties half, with the interval of Clopper and Pearson (Biometrika 26, 1934).

    To be read against 0.5, no preference, and 0.75, a meaningful one (Bouthillier et al., MLSys 2021). Descriptive:
    pairs of unpaired runs share runs, so the interval counts as many as the smaller side has.

    Args:
        one: Accuracies of runs of A.
        other: Accuracies of runs of B; the same seeds in the same order where the runs are paired.
        is_paired: Compare seed by seed, else each with each.
    """
    differences = one - other if is_paired else (one[:, None] - other[None, :]).ravel()
    share = float(np.mean((differences > 0) + 0.5 * (differences == 0)))
    num = min(len(one), len(other))
    wins = share * num
    low = float(special.betaincinv(wins, num - wins + 1, 0.025)) if wins > 0 else 0.0
    high = float(special.betaincinv(wins + 1, num - wins, 0.975)) if wins < num else 1.0
    return share, low, high


@dataclass(frozen=True)
class Ledger:
    """Standard deviations of a run's accuracy, as fractions.

    Attributes:
        seen: From seed to seed, on this test split.
        of_images: What the finite test split alone would give: sqrt(sum over images of the variance over seeds) / n,
            unbiased in the variance.
        left: What other test images would show too: the root of the covariance over seeds of the accuracies on two
            halves of the test images, as the mean over all ways to halve them (Jordan, "On the variance of neural
            network training with respect to test sets and distributions", 2023). From five seeds on, else None.
    """

    seen: float
    of_images: float
    left: float | None


def ledger(table: Table) -> Ledger:
    """Splits the spread over seeds of one configuration, at least two seeds."""
    num_seeds, num_images = table.shape
    seen = float(table.mean(axis=1, dtype=np.float64).var(ddof=1))
    by_image = float(table.var(axis=0, ddof=1, dtype=np.float64).sum())
    covariance = (num_images**2 * seen - by_image) / (num_images * (num_images - 1))
    left = max(0.0, covariance) ** 0.5 if num_seeds >= 5 else None
    return Ledger(seen**0.5, by_image**0.5 / num_images, left)
