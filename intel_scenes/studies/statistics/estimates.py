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
NEGLIGIBLE = 1e-9
EXPONENT = 0.4  # a; by the simulations of tests.studies.grid: with 0.5, two noisy arms have too many false verdicts
_STEPS = np.linspace(0.0, 1.0, 64)
_TRAPEZOID = _STEPS * np.where(_STEPS == 1, 0.5, 1.0)
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

    With n images, S seeds and the mean squares MS of a side, n times the variance is
    `images` + sum over sides of (MS_seed - MS_rest) / S. The sum of MS_rest / S, nearly known since it comes from n
    images, is the least that the sum of MS_seed / S can truly be, whereas few seeds tell little of the latter. So its
    posterior is taken, over values from that bound on (Tiao and Tan, Biometrika 52, 1965; Box and Tiao, "Bayesian
    Inference in Statistical Analysis", 1973, chapter 5), under the prior dt / ((t - bound)^a t^(1 - a)) with a = 0.4:
    uniform in the logarithm of the standard deviation of seeds where that is large, and (a = 0.5) in itself where it is
    small. The reference distribution is Student's t whose scale and degrees of freedom have the posterior mean and
    variance of the precision.

    Attributes:
        value: The mean.
        images: Variance from image to image of the means over seeds.
        sides: One, or two where the seeds are not paired.
        num_images: Of the split.
        largest: Value that there can be, up and down; that of a loss has no end.
        heaviest: Weight of the image that counts most; 1 where all count alike.
        degrees_of_images: Of freedom, of `images`; None is one less than `num_images`.
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
        """Whether a difference is that of paired seeds."""
        return len(self.sides) == 1

    @property
    def num_seeds(self) -> tuple[int, int]:
        """That count, of the one and of the other."""
        return self.sides[0].num_seeds, self.sides[-1].num_seeds

    @cached_property
    def _bound(self) -> float:
        return sum(side.rest / side.num_seeds for side in self.sides)

    @cached_property
    def _posterior(self) -> tuple[float, float]:
        """Variance and degrees of freedom of Student's t."""
        seeds = sum(side.seed / side.num_seeds for side in self.sides)
        degrees = satterthwaite([(side.seed / side.num_seeds, side.degrees) for side in self.sides])
        images = max(0.0, self.images - self._bound)
        degrees_of_images = self.degrees_of_images or self.num_images - 1
        if images + max(seeds, self._bound) <= 1e-15 * self.num_images:
            floor = RULE_OF_THREE * self.heaviest / float(special.ndtri(0.975)) / self.num_images
            return floor**2, float(degrees_of_images)
        mean, spread = (float(moment) for moment in precision(images, seeds, self._bound, degrees))
        spread += 2 * (images * mean) ** 2 / degrees_of_images
        return 1 / (mean * self.num_images), 2 / spread

    @property
    def variance(self) -> float:
        """Of the value; where no run and no image differs, so that a 95 % interval reaches to 3 in n."""
        return self._posterior[0]

    @property
    def degrees_of_freedom(self) -> float:
        """Of Student's t."""
        return self._posterior[1]

    @property
    def components(self) -> Components:
        """What other numbers of seeds would give; where the sides differ in theirs, as many on each."""
        rest = sum(side.rest for side in self.sides)
        seed = sum(max(0.0, side.seed - side.rest) for side in self.sides) / self.num_images
        return Components(seed, max(0.0, self.images - self._bound), rest, self.num_images)

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


def precision(
    images: npt.ArrayLike, seeds: npt.ArrayLike, bound: npt.ArrayLike, degrees: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Posterior mean, and squared coefficient of variation, of 1 / (images + t) for t from `bound` on; see `Estimate`.

    Args:
        images: (...) known part of a variance.
        seeds: (...) estimates of t, mean squares; these three are not all 0.
        bound: (...) the least that t can be.
        degrees: (...) of freedom, of `seeds`.
    """
    t, weights = posterior(np.asarray(images), np.asarray(seeds), np.asarray(bound), np.asarray(degrees))
    precisions = 1 / (np.asarray(images)[..., None] + t)
    mean = (weights * precisions).sum(-1)
    return mean, (weights * np.square(precisions / mean[..., None] - 1)).sum(-1)


def posterior(
    images: npt.NDArray[np.float64],
    seeds: npt.NDArray[np.float64],
    bound: npt.NDArray[np.float64],
    degrees: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Values (..., K) of t and their weights, for `precision`.

    With t = bound cosh(x)^2 the prior is tanh(x)^(1 - 2 a) in x; the steps grow linearly, since it is steep at 0.
    """
    scale = np.maximum(images, np.maximum(seeds, bound))
    bound = np.maximum(bound, NEGLIGIBLE * scale)
    seeds = np.maximum(seeds, NEGLIGIBLE * scale)
    # The ends leave out less than a millionth.
    low = np.maximum(bound, seeds * degrees / special.chdtri(degrees, 1e-9))
    high = np.maximum(bound, seeds) * degrees / special.chdtri(degrees, 1 - 1e-7)
    first, last = (np.arccosh(np.sqrt(end / bound)) for end in (low, high))
    t = bound[..., None] * np.square(np.cosh(first[..., None] + (last - first)[..., None] * np.square(_STEPS)))
    log_likelihood = -degrees[..., None] / 2 * (np.log(t / seeds[..., None]) + seeds[..., None] / t)
    prior = (1 - bound[..., None] / t).clip(0) ** (0.5 - EXPONENT)
    weights = _TRAPEZOID * prior * np.exp(log_likelihood - log_likelihood.max(-1, keepdims=True))
    return t, weights / weights.sum(-1, keepdims=True)


def wilson(num_right: int, num_images: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of the accuracy of one run over images (Wilson, JASA 22, 1927)."""
    found = stats.binomtest(num_right, num_images).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)


def balanced_wilson(right: npt.NDArray[np.floating], strata: npt.NDArray[np.integer]) -> tuple[float, float]:
    """95 % interval of the balanced accuracy of one run over images: Wilson's, with an effective number of images.

    That is how many images of equal weight would give the same variance; the smaller of what the accuracies of the
    classes say and of what one accuracy for all would, so that a class with all images right does not count as known.

    Args:
        right: (N,) 1 where an image is right.
        strata: (N,) class of each image.
    """
    counts = np.unique(strata, return_counts=True)[1]
    shares = np.array([right[strata == label].mean(dtype=np.float64) for label in np.unique(strata)])
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
    """Degrees of freedom of a sum of mean squares, some of them taken away; not fewer than the fewest of a term."""
    variance = sum(square for square, _ in terms)
    spread = sum(square**2 / degrees for square, degrees in terms)
    fewest = min(degrees for _, degrees in terms)
    return max(variance**2 / spread, fewest) if spread > 0 else fewest


def mcnemar(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> tuple[int, int, float]:
    """Of two runs: images that only the one has right, only the other, and the exact p of equal chances.

    McNemar's test (Psychometrika 12, 1947). It is about these two runs: it says nothing about other seeds.
    """
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    discordant = only_one + only_other
    return only_one, only_other, float(stats.binomtest(only_one, discordant).pvalue) if discordant else 1.0


def probability_of_better(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], *, is_paired: bool) -> float:
    """P(A > B) over pairs of runs, ties half (Bouthillier et al., MLSys 2021). Descriptive: it ignores the images.

    Args:
        one: Accuracies of runs of A.
        other: Accuracies of runs of B; the same seeds in the same order where the runs are paired.
        is_paired: Compare seed by seed, else each with each.
    """
    differences = one - other if is_paired else (one[:, None] - other[None, :]).ravel()
    return float(np.mean((differences > 0) + 0.5 * (differences == 0)))


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
