"""How the error falls with the number of training images: a power law, and what more images would bring by it.

The law is error(n) = a n^-b (Hestness et al., "Deep Learning Scaling is Predictable, Empirically", 2017), fitted by
least squares to the logarithms of the mean errors, each number of images with equal weight: a straight line. Real
curves bend away from it, towards a floor for one (Rosenfeld et al., "A Constructive Prediction of the Generalization
Error Across Scales", 2020). In simulated studies with a floor, an interval that takes the straight line for true held
what twice the images bring in 0 to 24 % of them (results/learning_curve). So from four numbers of images on the
extrapolation has a free bend, a quadratic term: its interval is wide, and holds the truth with a floor and without.

What follows from a fit is to first order a weighted sum of the errors at each number of images (the delta method). That
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

LEAST_SIZES = 3  # below, a power law leaves nothing over
LEAST_SIZES_TO_BEND = 4
STRAIGHT, BENT = 1, 2  # degrees of the polynomial in logarithms


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Errors at several numbers of training images, and the power law through them.

    Attributes:
        sizes: (K,) numbers of training images, rising.
        errors: (K,) mean test errors, fractions above 0.
        wrong: (K, seeds, N) 1 where a test image is wrong; a seed is the same along the first axis.
        groups: (N,) number of the group of nearly equal images that each one is in; None where each stands alone.
        strata: (N,) class of each image where classes count alike, as in balanced accuracy; None where images do.
    """

    sizes: Values
    errors: Values
    wrong: npt.NDArray[np.float32]
    groups: Groups = None
    strata: Strata = None

    @property
    def may_bend(self) -> bool:
        """Whether there are enough points for an extrapolation that does not take the power law for true."""
        return len(self.sizes) >= LEAST_SIZES_TO_BEND

    @property
    def scale(self) -> float:
        """The error of the power law at one image, a in a n^-b."""
        return self._fit(1, STRAIGHT)[0]

    def exponent(self) -> Estimate:
        """The exponent of the power law, b in a n^-b."""
        return self._of_coefficient(STRAIGHT, turned=True)

    def bend(self) -> Estimate:
        """The quadratic term of log error in log number of images: above 0 the error falls ever more slowly."""
        return self._of_coefficient(BENT)

    def accuracy(self, num_images: float) -> Estimate:
        """The accuracy with so many training images, by the curve that may bend where there are points enough."""
        error, weights = self._fit(num_images, self._degree)
        return self._of_errors(1 - error, -weights)

    def gain(self, num_images: float, more: float, *, is_straight: bool = False) -> Estimate:
        """What `more` training images bring in accuracy beside `num_images`; `is_straight` takes the law for true."""
        degree = STRAIGHT if is_straight else self._degree
        (before, of_before), (after, of_after) = self._fit(num_images, degree), self._fit(more, degree)
        return self._of_errors(before - after, of_before - of_after)

    @property
    def _degree(self) -> int:
        return BENT if self.may_bend else STRAIGHT

    def _powers(self, num_images: npt.ArrayLike, degree: int) -> Values:
        """(..., degree + 1) powers of the logarithm, the highest first, less the mean of the points' logarithms."""
        return np.vander(np.log(np.atleast_1d(num_images)) - np.log(self.sizes).mean(), degree + 1)

    def _fit(self, num_images: float, degree: int) -> tuple[float, Values]:
        """The error that a curve gives, and its derivatives by the errors of the points."""
        weights = (self._powers(num_images, degree) @ np.linalg.pinv(self._powers(self.sizes, degree)))[0]
        error = math.exp(weights @ np.log(self.errors))
        return error, error * weights / self.errors

    def _of_coefficient(self, degree: int, *, turned: bool = False) -> Estimate:
        """The leading coefficient of a curve, or its negative."""
        weights = np.linalg.pinv(self._powers(self.sizes, degree))[0] * (-1 if turned else 1)
        return self._of_errors(float(weights @ np.log(self.errors)), weights / self.errors, math.inf)

    def _of_errors(self, value: float, weights: Values, largest: float = 1.0) -> Estimate:
        """A value whose derivatives by the errors of the points are `weights`."""
        table = np.tensordot(weights, self.wrong, axes=1)
        estimate = Runs.of(table, groups=self.groups, strata=self.strata).mean(range(len(table)))
        return replace(estimate, value=value, largest=largest)


def learning_curve(
    sizes: npt.ArrayLike, wrong: npt.NDArray[np.float32], groups: Groups = None, strata: Strata = None
) -> LearningCurve | None:
    """The curve through the mean errors at several numbers of training images.

    Args:
        sizes: (K,) numbers of training images, rising.
        wrong: (K, seeds, N) 1 where a test image is wrong; a seed is the same along the first axis.
        groups: (N,) number of the group of nearly equal images that each one is in; None where each stands alone.
        strata: (N,) class of each image, for balanced errors; None for plain ones.

    Returns:
        None with fewer than three numbers of images or two seeds, or where at one of them nothing is wrong.
    """
    weights = np.ones(wrong.shape[2]) if strata is None else balancing(strata)
    numbers, errors = np.asarray(sizes, np.float64), wrong.mean(axis=1, dtype=np.float64) @ weights / len(weights)
    if len(numbers) < LEAST_SIZES or wrong.shape[1] < 2 or not errors.all():
        return None
    return LearningCurve(numbers, errors, wrong, groups, strata)
