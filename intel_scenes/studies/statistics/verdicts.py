"""What differences of a family of pairs show, and what a number of seeds could show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from intel_scenes.studies.statistics.estimates import Components, Estimate
from intel_scenes.studies.statistics.families import prior_degrees

BETTER, WORSE, EQUAL, NONE_SHOWN = "better", "worse", "practically equal", "no difference shown"
UNTESTABLE, NOT_TUNED = "untestable", "not tuned"
LEVEL = 0.05
POWER = 0.8
MAX_SEEDS = 10_000
NUM_DRAWN = 4_000


@dataclass(frozen=True)
class Verdict:
    """What one difference shows within its family.

    Attributes:
        text: `better`, `worse`, `practically equal` or `no difference shown`: what the first is against the second.
        p_value: Of this difference alone.
        p_holm: Adjusted for the family.
        level_holm: The level at which Holm's procedure came to test this pair: the interval at 1 - level_holm leaves
            out 0 where the verdict is `better` or `worse`, and only there.
    """

    text: str
    p_value: float
    p_holm: float
    level_holm: float


def judge(differences: Sequence[Estimate], rope: float) -> list[Verdict]:
    """Verdicts on a family of differences.

    `better` and `worse` by Holm's step-down procedure on two-sided tests (Holm, Scand. J. Statistics 6, 1979); else
    `practically equal` where both one-sided tests at 5 % reject a difference of `rope` (Schuirmann, J. Pharmacokinetics
    and Biopharmaceutics 15, 1987); else `no difference shown`.

    Args:
        differences: One for each pair.
        rope: The largest difference that makes no practical difference, a fraction.
    """
    p_values = [difference.p_value() for difference in differences]
    adjusted, levels = holm(p_values)
    verdicts = []
    for difference, p_value, p_holm, level in zip(differences, p_values, adjusted, levels, strict=True):
        if p_holm <= LEVEL:
            text = BETTER if difference.value > 0 else WORSE
        elif difference.p_below(rope) < LEVEL and 1 - difference.p_below(-rope) < LEVEL:
            text = EQUAL
        else:
            text = NONE_SHOWN
        verdicts.append(Verdict(text, p_value, p_holm, level))
    return verdicts


def holm(p_values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Adjusted p-values, and for each hypothesis the level at which it was tested or left standing."""
    order = np.argsort(p_values, kind="stable")
    num = len(p_values)
    adjusted, levels = [0.0] * num, [0.0] * num
    highest, level, stopped = 0.0, LEVEL / max(num, 1), False
    for rank, index in enumerate(order):
        if not stopped:
            level = LEVEL / (num - rank)
        highest = max(highest, min(1.0, (num - rank) * p_values[index]))
        stopped = stopped or highest > LEVEL
        adjusted[index], levels[index] = highest, level
    return adjusted, levels


@dataclass(frozen=True)
class Design:
    """What a study of `num_arms` arms, each against each or all against one, can show of a pair.

    Attributes:
        components: Of the variance of the difference of two arms.
        num_arms: At least two.
        has_baseline: All are compared with one of them alone.
        is_paired: The seeds of the arms are pairs.
    """

    components: Components
    num_arms: int
    has_baseline: bool = False
    is_paired: bool = True

    @property
    def level(self) -> float:
        """The strictest of Holm's levels, at which the first pair is tested."""
        others = self.num_arms - 1
        return LEVEL / (others if self.has_baseline else self.num_arms * others // 2)

    def power(self, difference: float, num_seeds: int) -> float:
        """Chance that a true difference of one pair is shown, at `level`, by the non-central t.

        Holm's later steps are less strict, so the chance is a little higher where several pairs differ.
        """
        error = math.sqrt(self.components.variance(num_seeds))
        return _chance(abs(difference) / error, *self._test(num_seeds)) if error else float(difference != 0)

    def smallest_shown(self, num_seeds: int) -> float:
        """The smallest true difference that four studies of five show with so many seeds."""
        error = math.sqrt(self.components.variance(num_seeds))
        critical, degrees = self._test(num_seeds)
        low = high = critical
        while _chance(high, critical, degrees) < POWER:
            high += 1.0
        for _ in range(30):  # the chance grows with the shift
            shift = (low + high) / 2
            is_enough = _chance(shift, critical, degrees) >= POWER
            low, high = (low, shift) if is_enough else (shift, high)
        return high * error

    def power_of_leader(self, difference: float, num_seeds: int) -> float:
        """Share of its pairs in which one arm that differs from all others alike is shown to, with all of Holm's steps.

        Of 4,000 drawn studies, with normal errors of the arms and a chi-square for the variance of each pair.
        """
        rng = np.random.default_rng(1)
        _, degrees = self._test(num_seeds)
        arms = rng.normal(0, math.sqrt(self.components.variance(num_seeds) / 2), (NUM_DRAWN, self.num_arms))
        arms[:, 0] += difference
        one, other = np.triu_indices(self.num_arms, k=1)
        if self.has_baseline:
            one, other = np.zeros(self.num_arms - 1, dtype=np.intp), np.arange(1, self.num_arms)
        errors = np.sqrt(self.components.variance(num_seeds) * rng.chisquare(degrees, (NUM_DRAWN, len(one))) / degrees)
        p_values = 2 * special.stdtr(degrees, -np.abs(arms[:, one] - arms[:, other]) / errors)
        order = np.argsort(p_values, axis=1)
        factors = np.arange(len(one), 0, -1)
        is_shown = np.logical_and.accumulate(np.take_along_axis(p_values, order, 1) * factors <= LEVEL, axis=1)
        return float(is_shown[(one == 0)[order]].mean())

    def seeds_needed(self, difference: float) -> int | None:
        """The fewest seeds that show a true difference in four studies of five; None where the images are the limit."""
        few, many = 1, 2
        while self.power(difference, many) < POWER:
            if many > MAX_SEEDS:
                return None
            few, many = many, 2 * many
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (few, middle) if self.power(difference, middle) >= POWER else (middle, many)
        return many

    def _test(self, num_seeds: int) -> tuple[float, float]:
        """The critical value of t, and its degrees of freedom."""
        prior = prior_degrees(self.num_arms, num_seeds)
        degrees = self.components.degrees_of_freedom(num_seeds, prior=prior, is_paired=self.is_paired)
        return float(special.stdtrit(degrees, 1 - self.level / 2)), degrees


def _chance(shift: float, critical: float, degrees: float) -> float:
    """That a t with a shifted centre falls outside of +- critical."""
    # The far side as the near side of the opposite shift: scipy's cdf gives NaN at some small values.
    return float(stats.nct.sf(critical, degrees, shift) + stats.nct.sf(critical, degrees, -shift))
