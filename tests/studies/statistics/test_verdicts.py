import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from intel_scenes.studies.statistics.estimates import Components, Estimate, Side
from intel_scenes.studies.statistics.verdicts import Design, holm, judge


def over_seeds(value: float, error: float, degrees: float = 9.0) -> Estimate:
    """A difference whose standard error comes from seeds alone."""
    return Estimate(value, 0.0, (Side(100 * 10 * error**2, 0.0, 10, degrees),), 100)


def test_holm_matches_statsmodels():
    rng = np.random.default_rng(0)
    for num in (1, 2, 5, 15):
        p_values = rng.uniform(0, 0.05, num).tolist()
        assert holm(p_values)[0] == pytest.approx(multipletests(p_values, method="holm")[1])


def test_the_adjusted_interval_excludes_zero_exactly_where_the_verdict_is_significant():
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(200):
        family = [over_seeds(value, 0.01) for value in rng.normal(0, 0.03, 6)]
        for difference, verdict in zip(family, judge(family, 0.005), strict=True):
            low, high = difference.interval(1 - verdict.level_holm)
            assert (verdict.text == "better") == (low > 0)
            assert (verdict.text == "worse") == (high < 0)
            assert (verdict.p_holm <= 0.05) == (verdict.text in ("better", "worse"))
            assert (
                verdict.p_holm
                >= verdict.p_value
                == pytest.approx(2 * stats.t.sf(abs(difference.value) / 0.01, 9), rel=1e-4)
            )
            seen.add(verdict.text)
    assert seen == {"better", "worse", "no difference shown"}


def test_bonferroni_intervals_divide_the_level_by_the_number_of_pairs():
    family = [over_seeds(value, 0.01) for value in (0.0, 0.01, 0.05, -0.02)]
    low, high = family[1].interval(1 - judge(family, 0.005)[1].level_bonferroni)
    assert (low, high) == pytest.approx(stats.t.interval(1 - 0.05 / 4, 9, 0.01, 0.01), rel=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.0018, -0.0018])
def test_two_one_sided_tests_make_a_difference_practically_equal(value):
    # With 9 degrees of freedom they reject at 5 % where |value| + 1.833 * 0.001 < 0.005.
    assert judge([over_seeds(value, 0.001)], 0.005)[0].text == "practically equal"


def test_without_either_result_no_difference_is_shown():
    assert judge([over_seeds(0.0020, 0.0018)], 0.005)[0].text == "no difference shown"
    assert judge([over_seeds(0.0005, 0.0030)], 0.005)[0].text == "no difference shown"


@pytest.mark.parametrize(("num_images", "text"), [(3000, "practically equal"), (12, "no difference shown")])
def test_identical_runs_are_practically_equal_with_enough_images(num_images, text):
    identical = Estimate(0.0, 0.0, (Side(0.0, 0.0, 10, 9.0),), num_images)
    assert judge([identical], 0.005)[0].text == text


def test_equivalence_is_adjusted_for_the_family_as_in_statsmodels():
    rng = np.random.default_rng(2)
    family = [over_seeds(value, 0.001) for value in rng.normal(0, 0.003, 8)]
    one_sided = [
        max(stats.t.sf((0.005 - one.value) / 0.001, 9), stats.t.sf((one.value + 0.005) / 0.001, 9)) for one in family
    ]
    verdicts = judge(family, 0.005)
    assert [one.p_equal for one in verdicts] == pytest.approx(one_sided, rel=1e-2)
    expected = multipletests(one_sided, method="holm")[1]
    assert [one.p_equal_holm for one in verdicts] == pytest.approx(expected, rel=1e-2)
    for verdict in verdicts:
        if verdict.text not in ("better", "worse"):
            assert (verdict.text == "practically equal") == (verdict.p_equal_holm <= 0.05)
    assert {"practically equal", "no difference shown", "better"} <= {one.text for one in verdicts}


SEEDS_ALONE = Components(seed=0.004**2, image=0.0, rest=0.0, num_images=3000)


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_power_with_known_components_is_that_of_the_noncentral_t(num_seeds):
    design, reference = Design(SEEDS_ALONE, num_arms=2), TTestPower()
    expected = reference.power(0.01 / 0.004, num_seeds, 0.05)
    assert design.power(0.01, num_seeds) == pytest.approx(expected, abs=0.03)
    smallest = 0.004 * reference.solve_power(None, num_seeds, 0.05, 0.8)
    assert design.smallest_shown(num_seeds) == pytest.approx(smallest, rel=0.05)


def test_uncertain_variance_raises_the_smallest_detectable_difference():
    parts = Components(2.4e-5, 0.0064, 0.12, 3000)
    shown = [Design(parts, 6, degrees=degrees).smallest_shown(5) for degrees in (4, 10, 1000, float("inf"))]
    assert shown == sorted(shown, reverse=True)
    assert shown[2] == pytest.approx(shown[3], rel=0.02)


def test_near_100_percent_the_worse_arm_has_larger_variance():
    parts = Components(0.0, 0.0002, 0.004, 1500)
    assert Design(parts, 2, accuracy=0.997).smallest_shown(3) > 1.1 * Design(parts, 2).smallest_shown(3)
    assert Design(parts, 2, accuracy=0.5).smallest_shown(3) == pytest.approx(
        Design(parts, 2).smallest_shown(3), rel=0.01
    )


def test_the_seeds_needed_are_the_fewest_with_80_percent_power():
    design = Design(Components(2.4e-5, 0.0064, 0.12, 3000), num_arms=3)
    needed, most = design.seeds_needed(0.01)
    assert needed == most, "the components are known"
    assert design.power(0.01, needed) >= 0.8 > design.power(0.01, needed - 1)
    assert design.smallest_shown(needed) <= 0.01 < design.smallest_shown(needed - 1)


def test_the_seeds_needed_are_a_range_where_the_variance_is_estimated():
    parts = Components(2.4e-5, 0.0064, 0.12, 3000)
    low, high = Design(parts, 3, degrees=10).seeds_needed(0.01)
    assert low < Design(parts, 3).seeds_needed(0.01)[0] < high


def test_with_too_few_images_no_number_of_seeds_is_enough():
    parts = Components(0.0, 0.0064, 0.12, 1500)
    shown = 0.0064**0.5 / 1500**0.5 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
    assert Design(parts, 2).seeds_needed(0.9 * shown) is None
    assert Design(parts, 2).seeds_needed(1.1 * shown) is not None


def test_more_comparisons_raise_the_smallest_detectable_difference():
    parts = Components(2.4e-5, 0.0064, 0.12, 3000)
    each, one = Design(parts, 6), Design(parts, 6, has_baseline=True)
    assert each.smallest_shown(5) > one.smallest_shown(5)
