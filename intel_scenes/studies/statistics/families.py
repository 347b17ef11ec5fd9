"""Seed variances of a family of arms, each moderated by the pooled one, because a few seeds estimate it poorly."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

from intel_scenes.studies.statistics.estimates import Estimate, Side, satterthwaite

# Chosen by the simulations of tests.studies.grid (see `moderated`).
POOLED_DEGREES = 5.0  # at most, times an arm's own
LEVEL_OF_OWN = 0.2
DIVERGED = 300.0  # times the median seed mean square: such an arm is left out of the pool


def moderated(differences: Sequence[Estimate], pairs: Sequence[tuple[int, int]]) -> list[Estimate]:
    """Return the differences of a family with seed variances that are moderated by those of all its arms.

    Each arm's own mean square is the least squares solution of "the mean square of a pair is the sum of those of its
    arms" (Grubbs, JASA 43, 1948), which leaves out effects of the seeds that the arms share. Its excess over the
    residual mean square is pooled, since the residual one depends on the accuracy. Each arm then gets the larger of its
    own and the pooled mean square: three seeds of a noisy arm that happen to agree must not make it a quiet one.
    Where its own is larger by an F test at 20 %, an arm keeps its own degrees of freedom, else it gets those of the
    pool (a preliminary test: Bancroft, Ann. Math. Statistics 15, 1944), at most five times its own, because arms may
    truly differ (Smyth, Statistical Applications in Genetics and Molecular Biology 3, 2004, calls them prior degrees of
    freedom). The two arms of a pair are added by Satterthwaite's formula.

    Args:
        differences: All pairs of the arms that can be tested, also where a baseline makes the family smaller.
        pairs: Indices of the two arms of each difference.

    Returns:
        The differences unchanged where there are two arms, which leave nothing to pool.
    """
    if len({arm for pair in pairs for arm in pair}) < 3:
        return list(differences)
    arms = mean_squares(differences, pairs)
    squares, degrees = moderated_squares(arms.squares, arms.degrees, arms.rests + arms.excess, arms.pooled_degrees)
    result = []
    for difference, (a, b) in zip(differences, pairs, strict=True):
        terms = [(float(squares[arm]), float(degrees[arm])) for arm in (a, b)]
        if difference.is_paired:
            terms = [(terms[0][0] + terms[1][0], satterthwaite(terms))]
        sides = tuple(
            replace(side, seed=square, degrees=freedom)
            for side, (square, freedom) in zip(difference.sides, terms, strict=True)
        )
        result.append(replace(difference, sides=sides))
    return result


@dataclass(frozen=True)
class ArmMeanSquares:
    """Seed mean squares of each arm, with their degrees of freedom.

    Attributes:
        squares: (A,) seed mean squares; NaN for an index that no pair names.
        rests: (A,) residual mean squares, the lower bound of the true `squares`.
        degrees: (A,) degrees of freedom.
        excess: Mean of `squares - rests` over all arms but diverged ones, at least 0.
        pooled_degrees: Degrees of freedom of `excess`.
    """

    squares: npt.NDArray[np.float64]
    rests: npt.NDArray[np.float64]
    degrees: npt.NDArray[np.float64]
    excess: float
    pooled_degrees: float


def mean_squares(differences: Sequence[Estimate], pairs: Sequence[tuple[int, int]]) -> ArmMeanSquares:
    """Return the seed mean squares of each arm by least squares over all pairs; see `moderated`."""
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
    pooled = degrees > 0
    # An arm's estimate can be 0 or negative, though its expectation is at least the residual mean square.
    if (middle := float(np.median(np.maximum(squares, rests)[pooled]))) > 0:
        pooled &= ~(squares > DIVERGED * middle)
    excess = max(0.0, float(np.average((squares - rests)[pooled], weights=degrees[pooled])))
    # Effects of the seeds that all arms share take the degrees of freedom of one arm.
    return ArmMeanSquares(
        squares, rests, degrees, excess, float(degrees[pooled].sum() * (1 - 1 / max(pooled.sum(), 2)))
    )


def moderated_squares(
    squares: npt.NDArray[np.float64], degrees: npt.ArrayLike, pooled: npt.ArrayLike, pooled_degrees: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the moderated seed mean squares of arms and their degrees of freedom; see `moderated`.

    Args:
        squares: (..., A) mean square of each arm.
        degrees: Degrees of freedom of `squares`.
        pooled: (..., A) pooled mean squares.
        pooled_degrees: Degrees of freedom of `pooled`.
    """
    own = np.asarray(degrees, np.float64)
    ratio = np.maximum(squares, 0.0) / np.maximum(pooled, 1e-300)
    is_own = special.fdtrc(own, pooled_degrees, ratio) < LEVEL_OF_OWN
    return np.fmax(squares, pooled), np.where(is_own, own, np.minimum(POOLED_DEGREES * own, pooled_degrees))
