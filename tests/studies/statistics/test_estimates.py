import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import proportion_confint

from intel_scenes.studies.statistics.estimates import (
    ledger,
    mcnemar,
    mean_accuracy,
    paired_difference,
    probability_of_better,
    unpaired_difference,
    wilson,
)

ROWS = np.array([0.90, 0.93, 0.91, 0.97])  # accuracies of four seeds
OTHER = np.array([0.88, 0.90, 0.92])


def right(seed: int, shape: tuple[int, int] = (4, 30)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    chances = rng.uniform(0.3, 1, shape[1]) + np.linspace(-0.3, 0.3, shape[0])[:, None]
    return (rng.random(shape) < chances).astype(np.float32)


def flat(rows: np.ndarray, num_images: int = 20) -> np.ndarray:
    """A table in which all images are alike, so that seeds alone differ."""
    return np.repeat(rows[:, None], num_images, axis=1)


def test_the_variance_is_that_of_the_analysis_of_variance():
    table = right(1)
    seeds, images = np.indices(table.shape)
    frame = pd.DataFrame({"y": table.ravel(), "seed": seeds.ravel(), "image": images.ravel()})
    squares = anova_lm(ols("y ~ C(seed) + C(image)", frame).fit())["mean_sq"]
    seed, image, rest = squares["C(seed)"], squares["C(image)"], squares["Residual"]
    assert seed > rest, "or another formula holds"
    assert image > rest
    found = mean_accuracy(table)
    assert found.value == pytest.approx(table.mean())
    assert found.variance == pytest.approx((seed + image - rest) / table.size, rel=1e-5)
    degrees = (seed + image - rest) ** 2 / (seed**2 / 3 + image**2 / 29 + rest**2 / (3 * 29))
    assert found.degrees_of_freedom == pytest.approx(degrees, rel=1e-5)
    parts = found.components
    assert parts.variance(4) == pytest.approx(found.variance, rel=1e-5)
    assert parts.degrees_of_freedom(4) == pytest.approx(found.degrees_of_freedom, rel=1e-4)


def test_where_images_are_alike_it_is_students_t_over_seeds():
    test = stats.ttest_1samp(ROWS - 0.9, 0)
    found = mean_accuracy(flat(ROWS - 0.9))
    assert found.p_value() == pytest.approx(test.pvalue)
    assert found.interval() == pytest.approx(test.confidence_interval(0.95))


def test_where_seeds_are_alike_it_is_students_t_over_images():
    row = right(2, (1, 30))[0] - 0.6
    test = stats.ttest_1samp(row, 0)
    found = mean_accuracy(np.tile(row, (3, 1)))
    assert found.p_value() == pytest.approx(test.pvalue, rel=1e-5)
    assert found.interval() == pytest.approx(test.confidence_interval(0.95), rel=1e-5)


def test_unpaired_seeds_of_images_that_are_alike_are_welchs_test():
    test = stats.ttest_ind(ROWS, OTHER, equal_var=False)
    found = unpaired_difference(flat(ROWS), flat(OTHER))
    assert found.p_value() == pytest.approx(test.pvalue)
    assert found.interval() == pytest.approx(test.confidence_interval(0.95))


def test_a_paired_difference_is_the_mean_of_the_table_of_differences():
    one, other = right(3), right(4)
    assert paired_difference(one, other) == mean_accuracy(one - other)
    swapped = paired_difference(other, one)
    assert swapped.interval() == pytest.approx([-bound for bound in reversed(paired_difference(one, other).interval())])


def test_runs_that_never_differ_may_still_differ_on_other_images():
    found = paired_difference(right(5), right(5))
    assert (found.value, found.p_value()) == (0, 1)
    # Of 30 images none differs: by the rule of three at most a tenth of all do; the t of 29 images is a little wider.
    assert found.interval() == pytest.approx((-0.1, 0.1), abs=0.005)


def test_two_seeds_that_happen_to_be_alike_do_not_count_as_many():
    one = right(9, (1, 30))
    table = np.concatenate([one, one])
    table[1, :2] = table[1, 1::-1]  # as accurate, on other images
    assert mean_accuracy(table).degrees_of_freedom < 28
    assert mean_accuracy(np.concatenate([table, one])).degrees_of_freedom == pytest.approx(29)


def test_wilson_and_mcnemar_are_those_of_statsmodels():
    assert wilson(93, 100) == pytest.approx(proportion_confint(93, 100, method="wilson"))
    one, other = right(6, (1, 60))[0] > 0, right(7, (1, 60))[0] > 0
    only_one, only_other, p_value = mcnemar(one, other)
    table = [[(one & other).sum(), (one & ~other).sum()], [(~one & other).sum(), (~one & ~other).sum()]]
    assert (only_one, only_other) == (table[0][1], table[1][0])
    assert p_value == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue)
    assert mcnemar(one, one) == (0, 0, 1.0)


def test_the_probability_of_better_counts_pairs_and_ties_half():
    one, other = np.array([0.9, 0.8, 0.7, 0.9]), np.array([0.8, 0.8, 0.8, 0.7])
    share, low, high = probability_of_better(one, other, is_paired=True)
    assert share == (2 + 0.5) / 4
    assert (low, high) == pytest.approx(proportion_confint(2.5, 4, method="beta"))
    share, *_ = probability_of_better(np.array([0.9, 0.7]), np.array([0.8, 0.7, 0.6]), is_paired=False)
    assert share == (3 + 1 + 0.5) / 6
    assert probability_of_better(one, one - 0.1, is_paired=True)[0::2] == (1.0, 1.0)


def test_the_ledger_is_that_of_all_ways_to_halve_the_images():
    table = right(8, (5, 6))
    found = ledger(table)
    assert found.seen == pytest.approx(table.mean(axis=1).std(ddof=1))
    assert found.of_images == pytest.approx(np.sqrt(table.var(axis=0, ddof=1).sum()) / 6)
    covariances = []
    for half in itertools.combinations(range(6), 3):
        rest = [image for image in range(6) if image not in half]
        covariances.append(np.cov(table[:, half].mean(axis=1), table[:, rest].mean(axis=1))[0, 1])
    assert found.left == pytest.approx(max(0, np.mean(covariances)) ** 0.5, abs=1e-6)
    assert ledger(table[:4]).left is None
