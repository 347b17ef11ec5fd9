"""Intervals over seeds, and the verdicts that follow from them by rules that do not look at the data."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import stats

LEVEL = 0.95
ROUNDING = 1e-12  # of a mean of float64 differences that is 0


class Verdict(StrEnum):
    """What a measurement says of a prediction."""

    HELD = "held"
    REFUTED = "refuted"
    UNDECIDED = "undecided"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; infinite bounds where the interval cannot be known.

    Attributes:
        value: Estimate.
        low: Lower bound.
        high: Upper bound.
        num: Number of values that it rests on: seeds, or cells of a regression.
    """

    value: float
    low: float
    high: float
    num: int

    def __str__(self) -> str:
        """Return value and interval in words."""
        if not self.num:
            return "unknown (no fresh seeds)"
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


UNKNOWN = Estimate(math.nan, -math.inf, math.inf, 0)


def mean(values: Collection[float]) -> Estimate:
    """Return the mean over seeds with its Student t interval; without bounds for a single seed."""
    array = np.array(list(values), float)
    if not len(array) or not np.isfinite(array).all():
        return UNKNOWN
    value = float(array.mean())
    if len(array) == 1:
        return Estimate(value, -math.inf, math.inf, 1)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array)))
    return Estimate(value, value - half, value + half, len(array))


def paired(left: Mapping[int, float], right: Mapping[int, float], weight: float = 1.0) -> dict[int, float]:
    """Return `left - weight * right` of the seeds that both have."""
    return {seed: left[seed] - weight * right[seed] for seed in sorted(left.keys() & right.keys())}


def ratio(numerators: Mapping[int, float], denominators: Mapping[int, float]) -> Estimate:
    """Return the ratio of two means over the same seeds with its interval (Fieller, JRSS B 16, 1954).

    The bounds are infinite where the denominator cannot be distinguished from 0.
    """
    seeds = sorted(numerators.keys() & denominators.keys())
    if not seeds:
        return UNKNOWN
    above, below = (np.array([part[seed] for seed in seeds], float) for part in (numerators, denominators))
    a, b, num = float(above.mean()), float(below.mean()), len(seeds)
    value = a / b if abs(b) > ROUNDING else math.nan
    if num == 1 or not np.isfinite([*above, *below]).all():
        return Estimate(value, -math.inf, math.inf, num)
    variances = np.cov(above, below) / num * float(stats.t.ppf((1 + LEVEL) / 2, num - 1)) ** 2
    # The ratios r for which the mean of above - r * below is not significantly different from 0.
    square, linear, constant = b**2 - variances[1, 1], a * b - variances[0, 1], a**2 - variances[0, 0]
    if square <= 0:
        return Estimate(value, -math.inf, math.inf, num)
    half = math.sqrt(max(0.0, linear**2 - square * constant))  # 0 where the ratio is the same for all seeds
    return Estimate(value, float((linear - half) / square), float((linear + half) / square), num)


def slopes(outcomes: Sequence[float], *factors: Sequence[float]) -> list[Estimate]:
    """Return the slopes of a least-squares regression with an intercept, one for each factor, with t intervals."""
    design = np.column_stack([np.ones(len(outcomes)), *factors])
    degrees = len(outcomes) - design.shape[1]
    if degrees < 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        return [UNKNOWN] * len(factors)
    inverse = np.linalg.inv(design.T @ design)
    values = inverse @ design.T @ np.array(outcomes)
    residuals = np.array(outcomes) - design @ values
    halves = stats.t.ppf((1 + LEVEL) / 2, degrees) * np.sqrt(residuals @ residuals / degrees * np.diag(inverse))
    return [
        Estimate(float(value), float(value - half), float(value + half), len(outcomes))
        for value, half in zip(values[1:], halves[1:], strict=True)
    ]


def above(estimate: Estimate) -> Verdict:
    """Held if the interval lies above 0, refuted if it does not reach above it, else undecided."""
    if estimate.low > 0:
        return Verdict.HELD
    return Verdict.REFUTED if estimate.high <= 0 else Verdict.UNDECIDED


def within(estimate: Estimate, low: float, high: float) -> Verdict:
    """Held if the interval lies between two bounds, refuted if it lies outside of them, else undecided."""
    if low <= estimate.low and estimate.high <= high:
        return Verdict.HELD
    return Verdict.REFUTED if estimate.low > high or estimate.high < low else Verdict.UNDECIDED


def all_of(verdicts: Collection[Verdict]) -> Verdict:
    """Refuted if one is, held if all are; those that were not run count only if none was run."""
    known = [verdict for verdict in verdicts if verdict is not Verdict.NOT_RUN]
    if not known:
        return Verdict.NOT_RUN
    if Verdict.REFUTED in known:
        return Verdict.REFUTED
    return Verdict.HELD if set(known) == {Verdict.HELD} else Verdict.UNDECIDED
