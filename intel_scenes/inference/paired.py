"""Two networks on the same images: the difference of their accuracies, image by image."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import binomtest, norm

Z = float(norm.ppf(0.975))


@dataclass(frozen=True)
class PairedDifference:
    """How much more often one network is right than another on the same images.

    What the interval and the p-value say is conditional on these two networks: other images of the same kind are what
    varies, not the seeds.

    Attributes:
        first: Name of one.
        second: Name of the other.
        difference: Accuracy of the first less that of the second.
        interval: 95 %, of Tango's score test.
        num_first_only: Images that the first alone gets right.
        num_second_only: Images that the second alone gets right.
        p_value: Of McNemar's exact test, two-sided.
    """

    first: str
    second: str
    difference: float
    interval: tuple[float, float]
    num_first_only: int
    num_second_only: int
    p_value: float


def paired_difference(
    first: str, second: str, first_right: npt.NDArray[np.bool_], second_right: npt.NDArray[np.bool_]
) -> PairedDifference:
    """Compares two networks image by image.

    Args:
        first: Name of one.
        second: Name of the other.
        first_right: (N,), which images the first gets right.
        second_right: (N,), the same of the second.
    """
    num_images = len(first_right)
    ours, theirs = int((first_right & ~second_right).sum()), int((~first_right & second_right).sum())
    discordant = ours + theirs
    return PairedDifference(
        first=first,
        second=second,
        difference=(ours - theirs) / num_images,
        interval=score_interval(ours, theirs, num_images),
        num_first_only=ours,
        num_second_only=theirs,
        p_value=float(binomtest(ours, discordant).pvalue) if discordant else 1.0,
    )


def score_interval(num_first_only: int, num_second_only: int, num_pairs: int) -> tuple[float, float]:
    """The 95 % score interval of a difference of paired proportions.

    Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample design",
    Statistics in Medicine 17, 1998: the differences that the score test does not reject. Unlike Wald's it keeps its
    level where few pairs are discordant, and is not empty where none is.

    Args:
        num_first_only: Pairs in which the first alone succeeds.
        num_second_only: Pairs in which the second alone does.
        num_pairs: All of them.
    """
    ours, theirs, total = num_first_only, num_second_only, num_pairs
    observed = (ours - theirs) / total

    def excess(difference: float) -> float:
        """Above 0 where a difference is rejected: the squared score less its critical value, times the variance."""
        linear = -ours - theirs + (2 * total - ours + theirs) * difference
        constant = -theirs * difference * (1 - difference)
        # The most likely share of pairs that the second alone succeeds in, given the difference.
        share = (math.sqrt(max(0.0, linear**2 - 8 * total * constant)) - linear) / (4 * total)
        variance = total * (2 * share + difference * (1 - difference))
        return (ours - theirs - total * difference) ** 2 - Z**2 * variance

    # The observed difference itself is a root where no pair is discordant, and the ends are where all are.
    inside = 1e-12
    low = brentq(excess, -1, observed - inside) if excess(observed - inside) < 0 and observed > -1 else -1.0
    high = brentq(excess, observed + inside, 1) if excess(observed + inside) < 0 and observed < 1 else 1.0
    return float(low), float(high)
