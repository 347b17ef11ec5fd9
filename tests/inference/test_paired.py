import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar

from intel_scenes.inference.paired import paired_difference, score_interval


def test_the_interval_is_that_of_the_literature() -> None:
    # Fagerland, Lydersen and Laake, Statistics in Medicine 33, 2014: airway hyper-responsiveness before and after stem
    # cell transplantation, Tango's interval.
    assert score_interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)
    assert score_interval(7, 1, 21) == pytest.approx((0.026, 0.517), abs=5e-4)


def test_where_all_pairs_are_discordant_the_interval_is_wilsons() -> None:
    wilson = binomtest(10, 10).proportion_ci(method="wilson")
    assert score_interval(10, 0, 10) == pytest.approx((2 * wilson.low - 1, 1))
    wilson = binomtest(3, 10).proportion_ci(method="wilson")
    assert score_interval(3, 7, 10) == pytest.approx((2 * wilson.low - 1, 2 * wilson.high - 1))


def test_networks_that_agree_everywhere_may_still_differ_a_little() -> None:
    # Solved by hand: n d^2 = z^2 (1 - d) d with no discordant pair gives z^2 / (n + z^2).
    end = 1.959964**2 / (50 + 1.959964**2)
    assert score_interval(0, 0, 50) == pytest.approx((-end, end), rel=1e-6)
    alike = np.array([True, False] * 25)
    assert paired_difference("a", "b", alike, alike).p_value == 1


def test_the_p_value_is_that_of_mcnemars_exact_test() -> None:
    first = np.array([True] * 30 + [True] * 9 + [False] * 2 + [False] * 9)
    second = np.array([True] * 30 + [False] * 9 + [True] * 2 + [False] * 9)
    pair = paired_difference("a", "b", first, second)
    assert (pair.num_first_only, pair.num_second_only) == (9, 2)
    assert pair.difference == pytest.approx(7 / 50)
    assert pair.p_value == pytest.approx(mcnemar([[30, 9], [2, 9]], exact=True).pvalue)
