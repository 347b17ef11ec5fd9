"""Paired comparison of two networks on the same images."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import norm

from intel_scenes.studies.statistics.estimates import mcnemar

Z = float(norm.ppf(0.975))


@dataclass(frozen=True)
class PairedDifference:
    """Difference in accuracy of two networks on the same images.

    The interval and the p-value are conditional on these two networks: they cover other images of the same kind, not
    other seeds.

    Attributes:
        first: Name of the first network.
        second: Name of the second network.
        difference: Accuracy of the first minus accuracy of the second.
        interval: 95 % interval by Tango's score test.
        num_first_only: Number of images that only the first classifies correctly.
        num_second_only: Number of images that only the second classifies correctly.
        p_value: Two-sided p-value of McNemar's exact test.
    """

    first: str
    second: str
    difference: float
    interval: tuple[float, float]
    num_first_only: int
    num_second_only: int
    p_value: float


def paired_difference(
    first: str, second: str, first_correct: npt.NDArray[np.bool_], second_correct: npt.NDArray[np.bool_]
) -> PairedDifference:
    """Compare two networks image by image.

    Args:
        first: Name of the first network.
        second: Name of the second network.
        first_correct: (N,) whether the first classifies each image correctly.
        second_correct: (N,) the same for the second.
    """
    num_images = len(first_correct)
    first_only, second_only, p_value = mcnemar(first_correct, second_correct)
    return PairedDifference(
        first=first,
        second=second,
        difference=(first_only - second_only) / num_images,
        interval=score_interval(first_only, second_only, num_images),
        num_first_only=first_only,
        num_second_only=second_only,
        p_value=p_value,
    )


def score_interval(num_first_only: int, num_second_only: int, num_pairs: int) -> tuple[float, float]:
    """Return the 95 % score interval of a difference of paired proportions.

    The interval holds the differences that the score test does not reject: Tango, "Equivalence test and confidence
    interval for the difference in proportions for the paired-sample design", Statistics in Medicine 17, 1998. Unlike
    Wald's interval it keeps its level with few discordant pairs, and has a width without any.

    Args:
        num_first_only: Number of pairs in which only the first succeeds.
        num_second_only: Number of pairs in which only the second succeeds.
        num_pairs: Number of all pairs.
    """
    observed = (num_first_only - num_second_only) / num_pairs

    def excess(difference: float) -> float:
        """Return the squared score minus its critical value, times the variance: above 0 for a rejected difference."""
        linear = (2 * num_pairs - num_first_only + num_second_only) * difference - num_first_only - num_second_only
        constant = -num_second_only * difference * (1 - difference)
        # Maximum likelihood estimate of the share of second-only pairs under this difference.
        share = (math.sqrt(max(0.0, linear**2 - 8 * num_pairs * constant)) - linear) / (4 * num_pairs)
        variance = num_pairs * (2 * share + difference * (1 - difference))
        return (num_first_only - num_second_only - num_pairs * difference) ** 2 - Z**2 * variance

    # Without discordant pairs the observed difference is itself a root; with discordant pairs only, -1 and 1 are.
    inside = 1e-12
    low = brentq(excess, -1, observed - inside) if excess(observed - inside) < 0 and observed > -1 else -1.0
    high = brentq(excess, observed + inside, 1) if excess(observed + inside) < 0 and observed < 1 else 1.0
    return float(low), float(high)
