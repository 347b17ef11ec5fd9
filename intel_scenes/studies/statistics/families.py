"""What the arms of a family tell of each other's variance over seeds, of which a few seeds tell little."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

from intel_scenes.studies.statistics.estimates import Estimate, Side, satterthwaite

# Chosen by the simulations of tests.studies.grid (see `moderated`).
POOLED_DEGREES = 5.0  # at most, times an arm's own
LEVEL_OF_OWN = 0.2
DIVERGED = 300.0  # times the median variance over seeds


def moderated(differences: Sequence[Estimate], pairs: Sequence[tuple[int, int]]) -> list[Estimate]:
    """Differences of a family, with variances over seeds that borrow strength from all of its arms.

    Each arm has a mean square of its own: the least squares solution of "the mean square of a pair is the sum of those
    of its arms" (Grubbs, JASA 43, 1948), which leaves out effects of the seeds that the arms share. What exceeds the
    rest's is pooled, since the rest goes with the accuracy. Then an arm has the larger of its own and the pooled one:
    three seeds of a noisy arm that happen to agree must not make it a quiet one.
    Where its own is larger by an F test at 20 %, it counts with its own degrees of freedom, else with those of the
    pool (a preliminary test: Bancroft, Ann. Math. Statistics 15, 1944), but with at most five times its own, because
    arms may truly differ (Smyth, Statistical Applications in Genetics and Molecular Biology 3, 2004, calls them prior
    degrees). The two arms of a pair add up as in Satterthwaite's formula.

    Args:
        differences: Of all pairs of the arms that can be tested, also where a baseline makes the family smaller.
        pairs: Places of the two arms of each difference.

    Returns:
        As given where there are two arms: nothing can be borrowed there.
    """
    if len({arm for pair in pairs for arm in pair}) < 3:
        return list(differences)
    arms = mean_squares(differences, pairs)
    squares, degrees = borrowed(arms.squares, arms.degrees, arms.rests + arms.excess, arms.pooled_degrees)
    result = []
    for difference, (a, b) in zip(differences, pairs, strict=True):
        own = [(float(squares[arm]), float(degrees[arm])) for arm in (a, b)]
        if difference.is_paired:
            own = [(own[0][0] + own[1][0], satterthwaite(own))]
        sides = tuple(
            replace(side, seed=seed, degrees=freedom)
            for side, (seed, freedom) in zip(difference.sides, own, strict=True)
        )
        result.append(replace(difference, sides=sides))
    return result


@dataclass(frozen=True)
class Arms:
    """Mean squares of the seeds of each arm, with their degrees of freedom.

    Attributes:
        squares: (A,) NaN for a place that no pair names.
        rests: (A,) mean squares of what neither seeds nor images explain, the least that `squares` truly are.
        degrees: (A,) of freedom.
        excess: By how much `squares` are above `rests`, 0 or more, in the mean over all arms but diverged ones.
        pooled_degrees: Of freedom, of `excess`.
    """

    squares: npt.NDArray[np.float64]
    rests: npt.NDArray[np.float64]
    degrees: npt.NDArray[np.float64]
    excess: float
    pooled_degrees: float


def mean_squares(differences: Sequence[Estimate], pairs: Sequence[tuple[int, int]]) -> Arms:
    """Of the seeds of each arm, from all pairs; see `moderated`."""
    num = 1 + max(max(pair) for pair in pairs)
    products, sums, degrees = np.zeros((num, num)), np.zeros((num, 2)), np.zeros(num)

    def add(arms: Sequence[int], side: Side) -> None:
        products[np.ix_(arms, arms)] += side.degrees
        sums[list(arms)] += side.degrees * np.array((side.seed, side.rest))
        degrees[list(arms)] = np.maximum(degrees[list(arms)], side.degrees)

    for difference, pair in zip(differences, pairs, strict=True):
        groups = [pair] if difference.is_paired else [(arm,) for arm in pair]
        for arms, side in zip(groups, difference.sides, strict=True):
            add(arms, side)
    squares, rests = np.where(degrees > 0, np.linalg.lstsq(products, sums)[0].T, np.nan)
    rests = np.maximum(rests, 0.0)
    calm = degrees > 0
    # An arm's square can come out as 0 and less, though truly none is below the rest's.
    if (middle := float(np.median(np.maximum(squares, rests)[calm]))) > 0:
        calm &= ~(squares > DIVERGED * middle)
    excess = max(0.0, float(np.average((squares - rests)[calm], weights=degrees[calm])))
    # One arm's worth of degrees goes to effects of the seeds that all arms share.
    return Arms(squares, rests, degrees, excess, float(degrees[calm].sum() * (1 - 1 / max(calm.sum(), 2))))


def borrowed(
    squares: npt.NDArray[np.float64], degrees: npt.ArrayLike, pooled: npt.ArrayLike, pooled_degrees: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The mean square of the seeds that arms count with, and its degrees of freedom; see `moderated`.

    Args:
        squares: (..., A) of each arm.
        degrees: Of freedom, of them.
        pooled: (..., A) those of all arms together.
        pooled_degrees: Of freedom, of `pooled`.
    """
    own = np.asarray(degrees, np.float64)
    ratio = np.maximum(squares, 0.0) / np.maximum(pooled, 1e-300)
    is_own = special.fdtrc(own, pooled_degrees, ratio) < LEVEL_OF_OWN
    return np.fmax(squares, pooled), np.where(is_own, own, np.minimum(POOLED_DEGREES * own, pooled_degrees))
