"""Verdicts on a family of differences, and the power of a study with a given number of seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt
from scipy import special

from intel_scenes.studies.statistics.estimates import Components, Estimate, posterior_precision, seed_posterior
from intel_scenes.studies.statistics.families import mean_squares, moderated_squares

BETTER, WORSE, EQUAL, NONE_SHOWN = "better", "worse", "practically equal", "no difference shown"
UNTESTABLE, NOT_TUNED = "untestable", "not tuned"
LEVEL = 0.05
POWER = 0.8
MAX_SEEDS = 10_000
MIN_DEGREES = 4.0  # with fewer, the heavy tail of the posterior variance would dominate the predicted power
MAX_RATIO = 5.0  # of the a (1 - a) of two arms: the growth of the variance is not extrapolated beyond it
NUM_DRAWN = 500
NUM_QUANTILES = 100


@dataclass(frozen=True)
class Verdict:
    """Verdict on one difference within its family.

    Attributes:
        text: `better`, `worse`, `practically equal` or `no difference shown`, of the first compared with the second.
        p_value: Two-sided p-value of this difference, unadjusted.
        p_holm: `p_value` adjusted for the family by Holm's procedure.
        level_holm: Level at which Holm's procedure tested this pair: the interval at 1 - level_holm excludes 0 exactly
            where the verdict is `better` or `worse`. Holm-adjusted, not simultaneous.
        level_bonferroni: The intervals at 1 - level_bonferroni cover all differences of the family at once with 95 %.
        p_equal: p-value of an absolute difference of at least `rope`, unadjusted.
        p_equal_holm: `p_equal` adjusted for the family by Holm's procedure.
        level_equal: Level at which Holm's procedure tested equivalence.
    """

    text: str
    p_value: float
    p_holm: float
    level_holm: float
    level_bonferroni: float
    p_equal: float
    p_equal_holm: float
    level_equal: float

    @property
    def confidence(self) -> float:
        """Confidence of the interval that agrees with the verdict: `practically equal` rests on two one-sided tests."""
        return 1 - (2 * self.level_equal if self.text == EQUAL else self.level_holm)


def judge(differences: Sequence[Estimate], rope: float) -> list[Verdict]:
    """Return the verdicts on a family of differences.

    `better` and `worse` by Holm's step-down procedure on two-sided tests (Holm, Scand. J. Statistics 6, 1979); else
    `practically equal` by the same procedure on tests of equivalence, each with the larger p-value of the two one-sided
    tests of a difference of `rope` (Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 1987); else
    `no difference shown`.

    Args:
        differences: One for each pair.
        rope: Region of practical equivalence: the largest difference without practical meaning, a fraction.
    """
    p_values = [difference.p_value() for difference in differences]
    p_equal = [max(difference.p_below(rope), 1 - difference.p_below(-rope)) for difference in differences]
    return by_holm([difference.value > 0 for difference in differences], p_values, p_equal)


def by_holm(is_better: Sequence[bool], p_values: Sequence[float], p_equal: Sequence[float]) -> list[Verdict]:
    """Return the verdicts on a family, as `judge` does, from p-values.

    Args:
        is_better: Whether the first of each pair has the better estimate.
        p_values: Two-sided p-values of no difference.
        p_equal: p-values of an absolute difference of at least the margin.
    """
    (adjusted, levels), (adjusted_equal, levels_equal) = holm(p_values), holm(p_equal)
    verdicts = []
    for index, better in enumerate(is_better):
        if adjusted[index] <= LEVEL:
            text = BETTER if better else WORSE
        else:
            text = EQUAL if adjusted_equal[index] <= LEVEL else NONE_SHOWN
        adjustments = adjusted[index], levels[index], LEVEL / len(p_values)
        of_equality = p_equal[index], adjusted_equal[index], levels_equal[index]
        verdicts.append(Verdict(text, p_values[index], *adjustments, *of_equality))
    return verdicts


def holm(p_values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the adjusted p-values, and for each hypothesis the level at which it was tested or retained."""
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
    """A study of `num_arms` arms, compared in all pairs or with one baseline, and its power for a pair.

    Power is an average over simulated studies whose seed mean squares are moderated as those of a real family. Where
    the seed variance is an estimate, each simulated study draws it from its posterior, so that power includes its
    uncertainty ("assurance": O'Hagan, Stevens and Campbell, Pharmaceutical Statistics 4, 2005).

    Attributes:
        components: Variance components of the difference of two arms.
        num_arms: Number of arms, at least two.
        has_baseline: All arms are compared with one of them alone.
        is_paired: The arms are paired by seed.
        accuracy: Accuracy a at which `components` were estimated. The worse arm of a pair makes more errors: with
            effects that are additive in logits, its variance over images is proportional to a (1 - a) and its variance
            over seeds to the square of that, which matters near a = 1. None ignores this.
        degrees: Degrees of freedom of the estimate `components.seed`; infinite where it is assumed.
    """

    components: Components
    num_arms: int
    has_baseline: bool = False
    is_paired: bool = True
    accuracy: float | None = None
    degrees: float = math.inf

    @classmethod
    def of(
        cls,
        differences: Sequence[Estimate],
        pairs: Sequence[tuple[int, int]],
        *,
        has_baseline: bool = False,
        accuracy: float | None = None,
    ) -> "Design":
        """Return the design of a study like the one that was run, with the pooled variance components of its arms.

        Args:
            differences: Differences of all pairs of its arms that can be tested, not moderated.
            pairs: Indices of the two arms of each difference.
            has_baseline: Its family is the comparisons with a baseline.
            accuracy: Mean accuracy over the arms.
        """
        arms = mean_squares(differences, pairs)
        components = [difference.components for difference in differences]
        image, rest = fmean(part.image for part in components), fmean(part.rest for part in components)
        num_images = components[0].num_images
        pooled = Components(2 * arms.excess / num_images, image, rest, num_images)
        num_arms = len({arm for pair in pairs for arm in pair})
        is_paired = all(difference.is_paired for difference in differences)
        degrees = max(arms.pooled_degrees, MIN_DEGREES)
        return cls(pooled, num_arms, has_baseline, is_paired, accuracy, degrees)

    @property
    def num_pairs(self) -> int:
        """Number of pairs in the family."""
        others = self.num_arms - 1
        return others if self.has_baseline else self.num_arms * others // 2

    @property
    def level(self) -> float:
        """Strictest of Holm's levels, at which the first pair is tested."""
        return LEVEL / self.num_pairs

    def power(self, difference: float, num_seeds: int) -> float:
        """Return the power to detect a true difference of one pair at `level`.

        Holm's later steps are less strict, so the power is a little higher where several pairs differ.
        """
        return self._power(difference, num_seeds, self._squares())

    def smallest_shown(self, num_seeds: int) -> float | None:
        """Return the smallest true difference that is detected with 80 % power with `num_seeds` seeds.

        Returns:
            None where no difference within the range of the extrapolation is: with few seeds and many pairs, an arm far
            below others near 100 % may vary so much more that its few degrees of freedom never reach the level.
        """
        squares = self._squares()
        largest = 1.0 if self.accuracy is None else max(self.accuracy, 1 - self.accuracy)
        low, high = 0.0, 1e-6
        while self._power(high, num_seeds, squares) < POWER:
            if high > largest or self._ratio(high) > MAX_RATIO:
                return None
            low, high = high, 2 * high
        for _ in range(20):
            middle = (low + high) / 2
            is_enough = self._power(middle, num_seeds, squares) >= POWER
            low, high = (low, middle) if is_enough else (middle, high)
        return high

    def seeds_needed(self, difference: float) -> tuple[int, int | None] | None:
        """Return the fewest seeds that give 80 % power for a true difference.

        Returns:
            The numbers for the seed variance at the 10 % and the 90 % point of its posterior. The second is None where
            more seeds cannot help there, because the test set is too small; None where they cannot help for either.
        """
        fewest = [
            self._seeds_needed(difference, np.quantile(self._squares(), (point,), method="inverted_cdf"))
            for point in (0.1, 0.9)
        ]
        return None if fewest[0] is None else (fewest[0], fewest[1])

    def power_of_leader(self, difference: float, num_seeds: int) -> float:
        """Return the share of pairs detected, with Holm's steps, for one arm that differs equally from all others."""
        rng = np.random.default_rng(1)
        num_drawn = max(200, min(2000, 100_000 // self.num_pairs))
        first, second = np.triu_indices(self.num_arms, k=1)
        if self.has_baseline:
            first, second = np.zeros(self.num_pairs, dtype=np.intp), np.arange(1, self.num_arms)
        squares = rng.choice(self._squares(), num_drawn)
        truth, variances, degrees = self._tests(rng, difference, num_seeds, squares, (first, second))
        errors = rng.normal(0, np.sqrt(truth))
        errors[:, 0] += difference
        p_values = 2 * special.stdtr(degrees, -np.abs(errors[:, first] - errors[:, second]) / np.sqrt(variances))
        order = np.argsort(p_values, axis=1)
        factors = np.arange(len(first), 0, -1)
        is_shown = np.logical_and.accumulate(np.take_along_axis(p_values, order, 1) * factors <= LEVEL, axis=1)
        return float(is_shown[(first == 0)[order]].mean())

    def _squares(self) -> npt.NDArray[np.float64]:
        """Return the expected seed mean square of a pair, or the quantiles of its posterior."""
        parts = self.components
        square = np.asarray(parts.num_images * parts.seed + parts.rest)
        if math.isinf(self.degrees) or square == 0:
            return np.full(1, square)
        bound = np.asarray(parts.rest)
        values, weights = seed_posterior(np.zeros(()), square, bound, np.asarray(self.degrees))
        points = (np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES
        return np.interp(points, np.cumsum(weights) - weights / 2, values)

    def _power(self, difference: float, num_seeds: int, squares: npt.NDArray[np.float64]) -> float:
        rng = np.random.default_rng(1)  # the same draws for all differences, so that power grows with the difference
        pair = np.zeros(1, np.intp), np.ones(1, np.intp)
        truth, variances, degrees = self._tests(rng, difference, num_seeds, np.resize(squares, NUM_DRAWN), pair)
        critical = special.stdtrit(degrees, 1 - self.level / 2) * np.sqrt(variances)
        error, size = np.sqrt(truth[:, :2].sum(axis=1, keepdims=True)), abs(difference)
        chances = special.ndtr((size - critical) / error) + special.ndtr((-size - critical) / error)
        return float(chances.mean())

    def _tests(
        self,
        rng: np.random.Generator,
        difference: float,
        num_seeds: int,
        squares: npt.NDArray[np.float64],
        pairs: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]],
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Simulate studies in which the first arm differs equally from all others.

        Returns:
            True variances of the arms (D, A), and the estimated variances and degrees of freedom of the pairs (D, P).
        """
        parts, num_images, own = self.components, self.components.num_images, num_seeds - 1.0
        ratios = np.ones(self.num_arms)
        ratios[0] = self._ratio(difference)
        expected = np.maximum(squares - parts.rest, 0.0)[:, None] / 2 * ratios**2 + parts.rest / 2 * ratios
        truth = (parts.image / 2 * ratios + expected / num_seeds) / num_images
        chances = rng.chisquare(own, expected.shape) / own
        arms = expected * chances
        first, second = pairs
        if self.num_arms == 2 and self.is_paired:
            seeds = chances[:, :1] * expected.sum(axis=1, keepdims=True)
            degrees = np.full(seeds.shape, own)
        else:
            freedom: npt.NDArray[np.float64] = np.full(arms.shape, own)
            if self.num_arms > 2:
                pooled_degrees = own * (self.num_arms - 1)
                rests = parts.rest / 2 * ratios
                pooled = np.maximum((arms - rests).mean(axis=1, keepdims=True), 0.0) + rests
                arms, freedom = moderated_squares(arms, own, pooled, pooled_degrees)
            seeds = arms[:, first] + arms[:, second]
            degrees = seeds**2 / (arms[:, first] ** 2 / freedom[:, first] + arms[:, second] ** 2 / freedom[:, second])
        growth = (ratios[first] + ratios[second]) / 2
        image, bound = (np.broadcast_to(part * growth, seeds.shape) for part in (parts.image, parts.rest / num_seeds))
        mean, spread = posterior_precision(image, seeds / num_seeds, bound, degrees)
        spread += 2 * (image * mean) ** 2 / (num_images - 1)
        return truth, 1 / (mean * num_images), 2 / spread

    def _ratio(self, difference: float) -> float:
        """Return the ratio of a (1 - a) of the arm that differs, taken to be worse, to that at `accuracy`."""
        if self.accuracy is None or not 0 < self.accuracy < 1:
            return 1.0
        worse = min(max(self.accuracy - abs(difference), 0.0), 1.0)
        return worse * (1 - worse) / (self.accuracy * (1 - self.accuracy))

    def _seeds_needed(self, difference: float, squares: npt.NDArray[np.float64]) -> int | None:
        few, many = 1, 2
        while self._power(difference, many, squares) < POWER:
            if many > MAX_SEEDS:
                return None
            few, many = many, 2 * many
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (few, middle) if self._power(difference, middle, squares) >= POWER else (middle, many)
        return many
