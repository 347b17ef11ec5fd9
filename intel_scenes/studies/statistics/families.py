"""What the arms of a study tell of each other's spread over seeds, of which a few seeds tell little."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from intel_scenes.studies.statistics.estimates import Estimate, Side

PRIOR_DEGREES = 4.0  # the smallest that keeps to 5 % of such studies in the simulations of the tests


def prior_degrees(num_arms: int, num_seeds: int) -> float:
    """Degrees of freedom that the other arms of a family add to what a pair's own seeds tell of their spread."""
    return min(PRIOR_DEGREES, float((num_arms - 2) * (num_seeds - 1)))


def moderated(estimates: Sequence[Estimate], num_arms: int) -> list[Estimate]:
    """Differences of a family, each with a spread over seeds that leans on what the others show.

    Few seeds tell little of their spread, and among many pairs some come out by chance as if seeds made no difference:
    of six equal configurations with three seeds and a spread of 0.8 points, one study of six then named a winner. So
    the mean square of the seeds is the weighted mean of its own and that of the family, which counts as much as
    `prior_degrees` further degrees of freedom (Smyth, Statistical Applications in Genetics and Molecular Biology 3,
    2004, with a fixed weight).

    Args:
        estimates: Of pairs whose spreads can be taken for alike (see `unsteady`).
        num_arms: That these pairs are made of. With two there is nothing to lean on.
    """
    result = list(estimates)
    for num_sides in (1, 2):
        places = [place for place, estimate in enumerate(estimates) if len(estimate.sides) == num_sides]
        sides = [side for place in places for side in estimates[place].sides]
        degrees = prior_degrees(num_arms, min((side.num_seeds for side in sides), default=0))
        if len(places) < 2 or degrees <= 0:
            continue
        family = float(np.mean([side.seed for side in sides]))
        for place in places:
            leaning = tuple(_leaning(side, family, degrees) for side in estimates[place].sides)
            result[place] = replace(estimates[place], sides=leaning)
    return result


def _leaning(side: Side, family: float, degrees: float) -> Side:
    total = degrees + side.degrees
    return replace(side, seed=(degrees * family + side.degrees * side.seed) / total, degrees=total)


def unsteady(accuracies: Sequence[npt.NDArray[np.float64]]) -> list[bool]:
    """Which arms spread so much more over seeds than the others that these must not lean on them.

    A variance above the median of the arms' by more than the 99.5 % point of F: a learning rate that is too high, say.

    Args:
        accuracies: Of the seeds of each arm; an arm with a single seed is steady.
    """
    several = [one for one in accuracies if len(one) > 1]
    if len(several) < 3:
        return [False] * len(accuracies)
    middle = float(np.median([one.var(ddof=1) for one in several]))
    degrees = float(np.mean([len(one) - 1 for one in several]))
    limit = middle * float(stats.f.ppf(0.995, degrees, degrees * (len(several) - 1)))
    return [len(one) > 1 and float(one.var(ddof=1)) > limit for one in accuracies]
