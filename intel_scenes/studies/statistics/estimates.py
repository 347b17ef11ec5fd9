"""Estimates of accuracies and their differences whose intervals cover both seeds and test images.

The table of a configuration has a row for each seed and a column for each test image, 1 where the image is classified
correctly. Seeds and images are crossed random effects: every seed is evaluated on every image. The variance of the mean
of such a table, and the degrees of freedom of its estimate, are those of a two-way random effects model (Searle,
Casella and McCulloch, "Variance Components", 1992; Satterthwaite, Biometrics Bulletin 2, 1946).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Table = npt.NDArray[np.float32]  # (seeds, images), 0 to 1
NEGLIGIBLE = 1e-9
EXPONENT = 0.4  # a; chosen in the simulations of tests.studies.grid: 0.5 gives two noisy arms too many false verdicts
_STEPS = np.linspace(0.0, 1.0, 64)
_TRAPEZOID = _STEPS * np.where(_STEPS == 1, 0.5, 1.0)
RULE_OF_THREE = 3.0  # 95 % upper bound of a rate with 0 events in n is 3/n (Hanley and Lippman-Hand, JAMA 249, 1983)


@dataclass(frozen=True)
class Components:
    """Variance components of a mean over `num_seeds` seeds and `num_images` images.

    Its variance is `seed / num_seeds + image / num_images + rest / (num_seeds * num_images)`.

    Attributes:
        seed: Variance between seeds.
        image: Variance between images.
        rest: Residual variance (seed x image interaction) of one image in one run.
        num_images: Number of test images.
    """

    seed: float
    image: float
    rest: float
    num_images: int

    def variance(self, num_seeds: int) -> float:
        """Return the variance of the mean over `num_seeds` seeds."""
        return self.seed / num_seeds + self.image / self.num_images + self.rest / (num_seeds * self.num_images)


@dataclass(frozen=True)
class Side:
    """Mean squares of one table: that of a configuration, or of the differences between runs paired by seed.

    Attributes:
        seed: Mean square between seeds.
        rest: Residual mean square (seed x image interaction).
        num_seeds: Number of rows of the table.
        degrees: Degrees of freedom of `seed`.
    """

    seed: float
    rest: float
    num_seeds: int
    degrees: float


@dataclass(frozen=True)
class Estimate:
    """A mean accuracy or a difference of two, as a fraction, with the parts of its variance.

    With n images, S seeds and the mean squares MS of a side, n times the variance is
    `images` + sum over sides of (MS_seed - MS_rest) / S. The expectation t of the sum of MS_seed / S is at least the
    sum of MS_rest / S, a bound that n images estimate well, whereas few seeds say little about t itself. So t gets a
    posterior on values above that bound (Tiao and Tan, Biometrika 52, 1965; Box and Tiao, "Bayesian Inference in
    Statistical Analysis", 1973, chapter 5), under the prior dt / ((t - bound)^a t^(1 - a)) with a = 0.4: uniform in the
    logarithm of the seed standard deviation where that is large, and (for a = 0.5) uniform in the standard deviation
    itself where it is small. The reference distribution is Student's t whose scale and degrees of freedom match the
    posterior mean and variance of the precision.

    Attributes:
        value: Estimate of the mean or the difference.
        images: Variance between images of the means over seeds.
        sides: Mean squares: one side, or two where the seeds are not paired.
        num_images: Number of images of the split.
        largest: Largest absolute value that is possible; infinite for losses.
        heaviest: Largest weight of an image; 1 where all images have equal weight.
        degrees_of_images: Degrees of freedom of `images`; None means `num_images - 1`.
    """

    value: float
    images: float
    sides: tuple[Side, ...]
    num_images: int
    largest: float = 1.0
    heaviest: float = 1.0
    degrees_of_images: float | None = None

    @property
    def is_paired(self) -> bool:
        """Whether a difference is paired by seed."""
        return len(self.sides) == 1

    @property
    def num_seeds(self) -> tuple[int, int]:
        """Number of seeds on each side."""
        return self.sides[0].num_seeds, self.sides[-1].num_seeds

    @cached_property
    def _bound(self) -> float:
        return sum(side.rest / side.num_seeds for side in self.sides)

    @cached_property
    def _posterior(self) -> tuple[float, float]:
        """Variance and degrees of freedom of the reference t distribution."""
        seeds = sum(side.seed / side.num_seeds for side in self.sides)
        degrees = satterthwaite([(side.seed / side.num_seeds, side.degrees) for side in self.sides])
        images = max(0.0, self.images - self._bound)
        degrees_of_images = self.degrees_of_images or self.num_images - 1
        if images + max(seeds, self._bound) <= 1e-15 * self.num_images:
            floor = RULE_OF_THREE * self.heaviest / float(special.ndtri(0.975)) / self.num_images
            return floor**2, float(degrees_of_images)
        mean, spread = (float(moment) for moment in posterior_precision(images, seeds, self._bound, degrees))
        spread += 2 * (images * mean) ** 2 / degrees_of_images
        return 1 / (mean * self.num_images), 2 / spread

    @property
    def variance(self) -> float:
        """Variance of the value; where no run and no image differs, the one whose 95 % interval reaches to 3 / n."""
        return self._posterior[0]

    @property
    def degrees_of_freedom(self) -> float:
        """Degrees of freedom of the reference t distribution."""
        return self._posterior[1]

    @property
    def components(self) -> Components:
        """Variance components, with which the variance at other numbers of seeds (equal on both sides) is predicted."""
        rest = sum(side.rest for side in self.sides)
        seed = sum(max(0.0, side.seed - side.rest) for side in self.sides) / self.num_images
        return Components(seed, max(0.0, self.images - self._bound), rest, self.num_images)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the Student t interval around the value."""
        half = float(special.stdtrit(self.degrees_of_freedom, (1 + level) / 2)) * math.sqrt(self.variance)
        return max(-self.largest, self.value - half), min(self.largest, self.value + half)

    def p_value(self) -> float:
        """Return the two-sided p-value of a true value of 0."""
        return 2 * float(special.stdtr(self.degrees_of_freedom, -abs(self.value) / math.sqrt(self.variance)))

    def p_below(self, bound: float) -> float:
        """Return the one-sided p-value of a true value of at least `bound`, small where the value lies far below it."""
        return float(special.stdtr(self.degrees_of_freedom, (self.value - bound) / math.sqrt(self.variance)))


def posterior_precision(
    images: npt.ArrayLike, seeds: npt.ArrayLike, bound: npt.ArrayLike, degrees: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the posterior mean and squared coefficient of variation of 1 / (images + t), t >= bound; see `Estimate`.

    Args:
        images: (...) part of a variance that is taken as known.
        seeds: (...) mean squares that estimate t; `images`, `seeds` and `bound` are not all 0.
        bound: (...) smallest possible t.
        degrees: (...) degrees of freedom of `seeds`.
    """
    t, weights = seed_posterior(np.asarray(images), np.asarray(seeds), np.asarray(bound), np.asarray(degrees))
    precisions = 1 / (np.asarray(images)[..., None] + t)
    mean = (weights * precisions).sum(-1)
    return mean, (weights * np.square(precisions / mean[..., None] - 1)).sum(-1)


def seed_posterior(
    images: npt.NDArray[np.float64],
    seeds: npt.NDArray[np.float64],
    bound: npt.NDArray[np.float64],
    degrees: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return (..., K) values of t and their posterior weights; arguments as in `posterior_precision`.

    With t = bound cosh(x)^2 the prior is tanh(x)^(1 - 2 a) in x. It is steep at 0, so the steps grow linearly.
    """
    scale = np.maximum(images, np.maximum(seeds, bound))
    bound = np.maximum(bound, NEGLIGIBLE * scale)
    seeds = np.maximum(seeds, NEGLIGIBLE * scale)
    # The tails beyond both ends have a posterior probability below one in a million.
    low = np.maximum(bound, seeds * degrees / special.chdtri(degrees, 1e-9))
    high = np.maximum(bound, seeds) * degrees / special.chdtri(degrees, 1 - 1e-7)
    first, last = (np.arccosh(np.sqrt(end / bound)) for end in (low, high))
    t = bound[..., None] * np.square(np.cosh(first[..., None] + (last - first)[..., None] * np.square(_STEPS)))
    log_likelihood = -degrees[..., None] / 2 * (np.log(t / seeds[..., None]) + seeds[..., None] / t)
    prior = (1 - bound[..., None] / t).clip(0) ** (0.5 - EXPONENT)
    weights = _TRAPEZOID * prior * np.exp(log_likelihood - log_likelihood.max(-1, keepdims=True))
    return t, weights / weights.sum(-1, keepdims=True)


def wilson(num_correct: int, num_images: int, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of the accuracy of one run over images (Wilson, JASA 22, 1927)."""
    interval = stats.binomtest(num_correct, num_images).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def balanced_wilson(correct: npt.NDArray[np.floating], strata: npt.NDArray[np.integer]) -> tuple[float, float]:
    """Return the 95 % Wilson interval of the balanced accuracy of one run, with an effective number of images.

    The effective number is how many images of equal weight would give the same variance: the smaller of the numbers by
    the class accuracies and by one accuracy for all classes, so that a class without errors does not count as known.

    Args:
        correct: (N,) 1 where an image is classified correctly.
        strata: (N,) class of each image.
    """
    counts = np.unique(strata, return_counts=True)[1]
    shares = np.array([correct[strata == label].mean(dtype=np.float64) for label in np.unique(strata)])
    share = float(shares.mean())
    num = len(counts) ** 2 / float((1 / counts).sum())
    variance = float((shares * (1 - shares) / counts).sum()) / len(counts) ** 2
    if variance > 0:
        num = min(num, share * (1 - share) / variance)
    z2 = float(special.ndtri(0.975)) ** 2 / num
    half = math.sqrt(z2 * (share * (1 - share) + z2 / 4)) / (1 + z2)
    centre = (share + z2 / 2) / (1 + z2)
    return max(0.0, centre - half), min(1.0, centre + half)


def satterthwaite(terms: Sequence[tuple[float, float]]) -> float:
    """Return Satterthwaite's degrees of freedom of a sum of signed mean squares, at least the fewest of any term."""
    variance = sum(square for square, _ in terms)
    spread = sum(square**2 / degrees for square, degrees in terms)
    fewest = min(degrees for _, degrees in terms)
    return max(variance**2 / spread, fewest) if spread > 0 else fewest


def mcnemar(correct_a: npt.NDArray[np.bool_], correct_b: npt.NDArray[np.bool_]) -> tuple[int, int, float]:
    """Return how many images only run A and only run B classify correctly, and the exact p-value.

    McNemar's test (Psychometrika 12, 1947) compares these two runs; it says nothing about other seeds.
    """
    only_a, only_b = int((correct_a & ~correct_b).sum()), int((correct_b & ~correct_a).sum())
    discordant = only_a + only_b
    return only_a, only_b, float(stats.binomtest(only_a, discordant).pvalue) if discordant else 1.0


def probability_of_better(
    runs_a: npt.NDArray[np.float64], runs_b: npt.NDArray[np.float64], *, is_paired: bool
) -> float:
    """Return P(A > B) over pairs of runs, ties counted half (Bouthillier et al., MLSys 2021).

    It is descriptive: it ignores that the test set is a sample.

    Args:
        runs_a: Accuracies of runs of A.
        runs_b: Accuracies of runs of B, in the same order of seeds where the runs are paired.
        is_paired: Compare runs of equal seeds; else every run of A with every run of B.
    """
    differences = runs_a - runs_b if is_paired else (runs_a[:, None] - runs_b[None, :]).ravel()
    return float(np.mean((differences > 0) + 0.5 * (differences == 0)))


@dataclass(frozen=True)
class SeedSpread:
    """Standard deviations over seeds of a run's accuracy, as fractions.

    Attributes:
        total_sd: On this test set.
        test_sampling_sd: Due to the finite test set alone: sqrt(sum over images of the variance over seeds) / n,
            unbiased in the variance.
        seed_sd: What other test images would show too: the root of the covariance over seeds between the accuracies on
            two halves of the test images, averaged over all ways to halve them (Jordan, "On the variance of neural
            network training with respect to test sets and distributions", 2023). None below five seeds.
    """

    total_sd: float
    test_sampling_sd: float
    seed_sd: float | None


def seed_spread(table: Table) -> SeedSpread:
    """Split the spread over at least two seeds of one configuration."""
    num_seeds, num_images = table.shape
    total = float(table.mean(axis=1, dtype=np.float64).var(ddof=1))
    by_image = float(table.var(axis=0, ddof=1, dtype=np.float64).sum())
    covariance = (num_images**2 * total - by_image) / (num_images * (num_images - 1))
    seed_sd = max(0.0, covariance) ** 0.5 if num_seeds >= 5 else None
    return SeedSpread(total**0.5, by_image**0.5 / num_images, seed_sd)
