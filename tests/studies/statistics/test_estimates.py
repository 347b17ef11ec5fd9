import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import proportion_confint

from intel_scenes.studies.statistics.crossed import Runs
from intel_scenes.studies.statistics.estimates import (
    Estimate,
    mcnemar,
    posterior_precision,
    probability_of_better,
    seed_spread,
    wilson,
)

ROWS = np.array([0.90, 0.93, 0.91, 0.97])  # accuracies of four seeds
OTHER = np.array([0.88, 0.90, 0.92])


def right(seed: int, shape: tuple[int, int] = (4, 30)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    chances = rng.uniform(0.3, 1, shape[1]) + np.linspace(-0.3, 0.3, shape[0])[:, None]
    return (rng.random(shape) < chances).astype(np.float32)


def mean_accuracy(table: np.ndarray) -> Estimate:
    return Runs.of(table).mean(range(len(table)))


def flat(rows: np.ndarray, num_images: int = 20) -> np.ndarray:
    """Return a table in which all images are equal, so that only seeds differ."""
    return np.repeat(rows[:, None], num_images, axis=1)


def test_the_components_are_those_of_the_analysis_of_variance():
    table = right(1)
    seeds, images = np.indices(table.shape)
    frame = pd.DataFrame({"y": table.ravel(), "seed": seeds.ravel(), "image": images.ravel()})
    squares = anova_lm(ols("y ~ C(seed) + C(image)", frame).fit())["mean_sq"]
    seed, image, rest = squares["C(seed)"], squares["C(image)"], squares["Residual"]
    assert seed > rest, "or another formula holds"
    assert image > rest
    estimate = mean_accuracy(table)
    assert estimate.value == pytest.approx(table.mean())
    assert (estimate.sides[0].seed, estimate.sides[0].rest) == pytest.approx((seed, rest))
    assert estimate.components.variance(4) == pytest.approx((seed + image - rest) / table.size)


@pytest.mark.parametrize("seeds", [0.02, 0.5, 3.0])
@pytest.mark.parametrize("degrees", [1, 2, 15])
def test_the_posterior_precision_matches_numerical_integration(seeds, degrees):
    images, bound = 0.1, 0.4

    def density(t: float) -> float:
        likelihood = stats.chi2.pdf(degrees * seeds / t, degrees) / t
        return likelihood / ((t - bound) ** 0.4 * t**0.6)

    def moment(power: int) -> float:
        inner = integrate.quad(lambda t: density(t) / (images + t) ** power, bound, 2 * bound)[0]
        return inner + integrate.quad(lambda t: density(t) / (images + t) ** power, 2 * bound, np.inf)[0]

    mean, spread = posterior_precision(images, seeds, bound, degrees)
    assert mean == pytest.approx(moment(1) / moment(0), rel=2e-3)
    assert spread == pytest.approx(moment(2) * moment(0) / moment(1) ** 2 - 1, rel=2e-2)


def test_with_equal_images_the_test_is_students_t_over_seeds():
    test = stats.ttest_1samp(ROWS - 0.9, 0)
    estimate = mean_accuracy(flat(ROWS - 0.9))
    assert estimate.p_value() == pytest.approx(test.pvalue, rel=1e-3)
    assert estimate.interval() == pytest.approx(test.confidence_interval(0.95), rel=1e-3)


def test_with_equal_seeds_the_test_is_students_t_over_images():
    row = right(2, (1, 30))[0] - 0.6
    test = stats.ttest_1samp(row, 0)
    estimate = mean_accuracy(np.tile(row, (3, 1)))
    assert estimate.p_value() == pytest.approx(test.pvalue, rel=1e-5)
    assert estimate.interval() == pytest.approx(test.confidence_interval(0.95), rel=1e-5)


def test_with_equal_images_the_unpaired_test_is_welchs():
    test = stats.ttest_ind(ROWS, OTHER, equal_var=False)
    estimate = Runs.of(np.concatenate([flat(ROWS), flat(OTHER)])).unpaired_difference(range(4), range(4, 7))
    assert estimate.p_value() == pytest.approx(test.pvalue, rel=1e-3)
    assert estimate.interval() == pytest.approx(test.confidence_interval(0.95), rel=1e-3)


def test_identical_predictions_leave_an_interval_by_the_rule_of_three():
    estimate = Runs.of(np.concatenate([right(5), right(5)])).paired_difference(range(4), range(4, 8))
    assert (estimate.value, estimate.p_value()) == (0, 1)
    # None of 30 images differs: the rule of three bounds the rate by a tenth; t for 30 images is a little wider.
    assert estimate.interval() == pytest.approx((-0.1, 0.1), abs=0.005)


def test_equal_seed_means_do_not_make_the_seed_variance_zero():
    one = right(9, (1, 30))
    table = np.concatenate([one, one, one])
    table[1, :2] = table[1, 1::-1]  # equal accuracy, other images
    estimate = mean_accuracy(table)
    assert estimate.sides[0].seed == pytest.approx(0, abs=1e-12)
    assert estimate.variance > estimate.images / 30
    assert estimate.degrees_of_freedom < 28


def test_wilson_and_mcnemar_match_statsmodels():
    assert wilson(93, 100) == pytest.approx(proportion_confint(93, 100, method="wilson"))
    one, other = right(6, (1, 60))[0] > 0, right(7, (1, 60))[0] > 0
    only_one, only_other, p_value = mcnemar(one, other)
    table = [[(one & other).sum(), (one & ~other).sum()], [(~one & other).sum(), (~one & ~other).sum()]]
    assert (only_one, only_other) == (table[0][1], table[1][0])
    assert p_value == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue)
    assert mcnemar(one, one) == (0, 0, 1.0)


def test_the_probability_of_better_counts_ties_half():
    one, other = np.array([0.9, 0.8, 0.7, 0.9]), np.array([0.8, 0.8, 0.8, 0.7])
    assert probability_of_better(one, other, is_paired=True) == (2 + 0.5) / 4
    share = probability_of_better(np.array([0.9, 0.7]), np.array([0.8, 0.7, 0.6]), is_paired=False)
    assert share == (3 + 1 + 0.5) / 6
    assert probability_of_better(one, one - 0.1, is_paired=True) == 1.0


def test_the_seed_sd_is_the_average_over_all_ways_to_halve_the_images():
    table = right(8, (5, 6))
    spread = seed_spread(table)
    assert spread.total_sd == pytest.approx(table.mean(axis=1).std(ddof=1))
    assert spread.test_sampling_sd == pytest.approx(np.sqrt(table.var(axis=0, ddof=1).sum()) / 6)
    covariances = []
    for half in itertools.combinations(range(6), 3):
        rest = [image for image in range(6) if image not in half]
        covariances.append(np.cov(table[:, half].mean(axis=1), table[:, rest].mean(axis=1))[0, 1])
    assert spread.seed_sd == pytest.approx(max(0, np.mean(covariances)) ** 0.5, abs=1e-6)
    assert seed_spread(table[:4]).seed_sd is None
