import itertools

import numpy as np
import pytest
from scipy import stats

from intel_scenes.studies.statistics.crossed import Runs
from intel_scenes.studies.statistics.estimates import Estimate
from intel_scenes.studies.statistics.families import mean_squares, moderated

NUM_IMAGES = 20


def family(accuracies: np.ndarray, *, is_paired: bool = True) -> tuple[list[Estimate], list[tuple[int, int]]]:
    """Return all pairs of arms (arms, seeds) whose images are all equal, so that only seeds differ."""
    num_arms, num_seeds = accuracies.shape
    runs = Runs.of(np.repeat(accuracies.reshape(-1, 1), NUM_IMAGES, axis=1))
    rows = np.arange(num_arms * num_seeds).reshape(num_arms, num_seeds)
    pairs = list(itertools.combinations(range(num_arms), 2))
    difference = runs.paired_difference if is_paired else runs.unpaired_difference
    return [difference(rows[a], rows[b]) for a, b in pairs], pairs


def drawn(seed: int, num_arms: int, num_seeds: int = 3) -> np.ndarray:
    return 0.9 + np.random.default_rng(seed).normal(0, 0.01, (num_arms, num_seeds))


def test_arms_with_independent_seeds_have_the_variance_of_their_runs():
    accuracies = drawn(1, 5)
    squares = mean_squares(*family(accuracies, is_paired=False))
    assert squares.squares == pytest.approx(NUM_IMAGES * accuracies.var(axis=1, ddof=1))
    assert squares.excess == pytest.approx(NUM_IMAGES * accuracies.var(axis=1, ddof=1).mean())


def test_seed_effects_common_to_all_arms_are_left_out_of_their_variances():
    accuracies = drawn(2, 4, 40)
    shared = np.random.default_rng(3).normal(0, 0.1, 40)
    squares = mean_squares(*family(accuracies + shared))
    assert squares.squares == pytest.approx(mean_squares(*family(accuracies)).squares)
    residuals = accuracies - accuracies.mean(axis=1, keepdims=True)
    residuals -= residuals.mean(axis=0)
    # Grubbs' estimator of each arm, from the residuals of the two-way table.
    own = (residuals**2).sum(axis=1) / 39
    grubbs = (own - own.sum() / 3 / 4) / (1 - 2 / 4)
    assert squares.squares == pytest.approx(NUM_IMAGES * grubbs)


def test_quiet_arms_get_the_pooled_variance_and_a_noisy_one_keeps_its_own():
    accuracies = np.array([[0.90, 0.91, 0.92], [0.80, 0.82, 0.81], [0.85, 0.86, 0.84], [0.70, 0.90, 0.80]])
    differences, pairs = family(accuracies, is_paired=False)
    own = NUM_IMAGES * accuracies.var(axis=1, ddof=1)
    pooled, degrees = own.mean(), 3 * 2
    assert stats.f.sf(own[3] / pooled, 2, degrees) < 0.2
    for difference, (_, b) in zip(moderated(differences, pairs), pairs, strict=True):
        one, other = difference.sides
        assert (one.seed, one.degrees) == pytest.approx((pooled, degrees))
        assert (other.seed, other.degrees) == pytest.approx((own[3], 2) if b == 3 else (pooled, degrees))


def test_paired_arms_add_up_as_in_satterthwaites_formula():
    differences, pairs = family(drawn(4, 12))
    arms = mean_squares(differences, pairs)
    quiet = [place for place, pair in enumerate(pairs) if max(arms.squares[list(pair)]) < arms.excess]
    estimate = moderated(differences, pairs)[quiet[0]]
    assert estimate.sides[0].seed == pytest.approx(2 * arms.excess)
    assert estimate.sides[0].degrees == pytest.approx(2 * 5 * 2)
    assert estimate.value == differences[quiet[0]].value


def test_a_diverged_arm_is_left_out_of_the_pool():
    accuracies = np.concatenate([drawn(5, 5), [[0.2, 0.9, 0.5]]])
    with_it, without = mean_squares(*family(accuracies, is_paired=False)), drawn(5, 5).var(axis=1, ddof=1)
    assert with_it.excess == pytest.approx(NUM_IMAGES * without.mean())


def test_a_less_accurate_arm_has_no_larger_excess_variance():
    rng = np.random.default_rng(7)
    table = np.concatenate([rng.random((40, 2000)) < chance for chance in (0.99, 0.98, 0.97, 0.7)]).astype(float)
    rows, pairs = np.arange(160).reshape(4, 40), list(itertools.combinations(range(4), 2))
    runs = Runs.of(table)
    squares = mean_squares([runs.paired_difference(rows[a], rows[b]) for a, b in pairs], pairs)
    assert squares.rests == pytest.approx([0.0099, 0.0196, 0.0291, 0.21], rel=0.15)
    assert squares.excess < 0.02, "runs differ by the binomial law alone"


def test_two_arms_are_not_moderated():
    differences, pairs = family(drawn(6, 2))
    assert moderated(differences, pairs) == differences
