"""Learning curves: a power law of the error in the number of training images, and the expected gain from more.

The law is error(n) = a n^-b (Hestness et al., "Deep Learning Scaling is Predictable, Empirically", 2017), fitted by
least squares to the logarithms of the mean errors with equal weights: a straight line. Real curves deviate from it, for
example towards a floor (Rosenfeld et al., "A Constructive Prediction of the Generalization Error Across Scales", 2020).
In simulated studies with a floor, intervals that assume the straight line covered the gain from twice the images in 0
to 24 % of studies (results/learning_curve). So with at least four training set sizes the extrapolation has a quadratic
term: its interval is wide, and covers the truth with and without a floor.

A quantity derived from the fit is, to first order, a weighted sum of the errors at each size (the delta method). That
sum can be taken for each seed and each test image, which gives a table of seeds by images: its mean has the variance of
crossed random effects, as every other mean of a study (`estimates`).
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from intel_scenes.studies.statistics.crossed import Runs, balancing
from intel_scenes.studies.statistics.estimates import Estimate

Values = npt.NDArray[np.float64]
Groups = npt.NDArray[np.integer] | None
Strata = npt.NDArray[np.integer] | None

LEAST_SIZES = 3  # with two, a power law fits exactly
LEAST_SIZES_TO_BEND = 4
STRAIGHT, BENT = 1, 2  # degrees of the polynomial in logarithms


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Errors at several numbers of training images, and the power law through them.

    Attributes:
        sizes: (K,) numbers of training images, increasing.
        errors: (K,) mean test errors, fractions above 0.
        wrong: (K, seeds, N) 1 where a test image is misclassified; the same seeds in the same order at every size.
        groups: (N,) cluster index of each image, for near-duplicates; None where all images are independent.
        strata: (N,) class of each image for balanced errors; None for plain ones.
    """

    sizes: Values
    errors: Values
    wrong: npt.NDArray[np.float32]
    groups: Groups = None
    strata: Strata = None

    @property
    def may_bend(self) -> bool:
        """Whether there are enough sizes for an extrapolation that does not assume the power law."""
        return len(self.sizes) >= LEAST_SIZES_TO_BEND

    @property
    def scale(self) -> float:
        """The error of the power law at one training image, a in a n^-b."""
        return self._fit(1, STRAIGHT)[0]

    def exponent(self) -> Estimate:
        """Estimate the exponent of the power law, b in a n^-b."""
        return self._of_coefficient(STRAIGHT, turned=True)

    def bend(self) -> Estimate:
        """Estimate the quadratic term of log error in log size: above 0, the error falls ever more slowly."""
        return self._of_coefficient(BENT)

    def accuracy(self, num_images: float) -> Estimate:
        """Estimate the accuracy with `num_images` training images, by the quadratic curve where `may_bend`."""
        error, weights = self._fit(num_images, self._degree)
        return self._of_errors(1 - error, -weights)

    def gain(self, num_images: float, more: float, *, is_straight: bool = False) -> Estimate:
        """Estimate the gain in accuracy from `num_images` to `more`; `is_straight` assumes the power law."""
        degree = STRAIGHT if is_straight else self._degree
        (before, of_before), (after, of_after) = self._fit(num_images, degree), self._fit(more, degree)
        return self._of_errors(before - after, of_before - of_after)

    @property
    def _degree(self) -> int:
        return BENT if self.may_bend else STRAIGHT

    def _powers(self, num_images: npt.ArrayLike, degree: int) -> Values:
        """Return (..., degree + 1) powers of the log size minus the mean log size, highest first."""
        return np.vander(np.log(np.atleast_1d(num_images)) - np.log(self.sizes).mean(), degree + 1)

    def _fit(self, num_images: float, degree: int) -> tuple[float, Values]:
        """Return the error predicted by a curve, and its derivatives with respect to the errors at each size."""
        weights = (self._powers(num_images, degree) @ np.linalg.pinv(self._powers(self.sizes, degree)))[0]
        error = math.exp(weights @ np.log(self.errors))
        return error, error * weights / self.errors

    def _of_coefficient(self, degree: int, *, turned: bool = False) -> Estimate:
        """Estimate the leading coefficient of a curve, or its negative where `turned`."""
        weights = np.linalg.pinv(self._powers(self.sizes, degree))[0] * (-1 if turned else 1)
        return self._of_errors(float(weights @ np.log(self.errors)), weights / self.errors, math.inf)

    def _of_errors(self, value: float, weights: Values, largest: float = 1.0) -> Estimate:
        """Estimate a value whose derivatives with respect to the errors at each size are `weights`."""
        table = np.tensordot(weights, self.wrong, axes=1)
        estimate = Runs.of(table, groups=self.groups, strata=self.strata).mean(range(len(table)))
        return replace(estimate, value=value, largest=largest)


def learning_curve(
    sizes: npt.ArrayLike, wrong: npt.NDArray[np.float32], groups: Groups = None, strata: Strata = None
) -> LearningCurve | None:
    """Return the learning curve through the mean errors at several training set sizes.

    Args:
        sizes: (K,) numbers of training images, increasing.
        wrong: (K, seeds, N) 1 where a test image is misclassified; the same seeds in the same order at every size.
        groups: (N,) cluster index of each image, for near-duplicates; None where all images are independent.
        strata: (N,) class of each image for balanced errors; None for plain ones.

    Returns:
        None with fewer than three sizes or two seeds, or where the error is 0 at one of the sizes.
    """
    weights = np.ones(wrong.shape[2]) if strata is None else balancing(strata)
    numbers, errors = np.asarray(sizes, np.float64), wrong.mean(axis=1, dtype=np.float64) @ weights / len(weights)
    if len(numbers) < LEAST_SIZES or wrong.shape[1] < 2 or not errors.all():
        return None
    return LearningCurve(numbers, errors, wrong, groups, strata)
