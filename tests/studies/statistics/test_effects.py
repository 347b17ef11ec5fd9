import itertools
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.stats.anova import AnovaRM
from statsmodels.stats.multitest import multipletests

from intel_scenes.studies.statistics.effects import Cell, Effects, FactorialDesign, effects
from tests.studies.effects_grid import lower_bound, simulate


def study(values: np.ndarray, num_images: int = 4, factors: tuple[str, ...] = ("backbone", "optim")) -> list[Cell]:
    """Return cells whose runs have one value on every image; shape (levels of each factor ..., seeds)."""
    cells = []
    for place in itertools.product(*map(range, values.shape[:-1])):
        levels = {factor: str(level) for factor, level in zip(factors, place, strict=True)}
        cells.append(Cell(levels, np.repeat(values[place][:, None], num_images, axis=1), range(values.shape[-1])))
    return cells


def of(estimates: Effects, factor: str, level: str, against: str, within: str = "all") -> Any:
    both = [*estimates.main, *estimates.simple]
    names = (factor, level, against, within)
    return next(one for one in both if (one.factor, one.level, one.against, one.within) == names)


def test_a_level_with_only_good_backbones_is_compared_on_these():
    # nadam is 1 point worse than adam everywhere, but ran on backbones at 90 % only, adam at 60 % too.
    values = {("small", "adam"): 0.60, ("large", "adam"): 0.90, ("wide", "adam"): 0.92}
    values |= {("large", "nadam"): 0.89, ("wide", "nadam"): 0.91}
    noise = np.random.default_rng(0).normal(0, 0.0005, (5, 3, 1))
    cells = [
        Cell({"backbone": backbone, "optim": optim}, np.full((3, 4), value) + of_cell - of_cell.mean(), range(3))
        for ((backbone, optim), value), of_cell in zip(values.items(), noise, strict=True)
    ]
    estimates = effects(cells, 0.005)
    one = of(estimates, "optim", "adam", "nadam")
    assert one.difference == pytest.approx(0.01)
    assert one.matched == ((1, 3), (2, 4))
    assert (one.num_cells, one.num_runs, one.verdict) == (4, 12, "better")
    means = {(mean.factor, mean.level): mean for mean in estimates.means}
    assert means["optim", "adam"].mean == pytest.approx(0.91)
    assert means["optim", "adam"].cells == (1, 2)
    assert means["optim", "adam"].is_matched
    (interaction,) = estimates.interactions
    assert interaction.levels == (("large", "wide"), ("adam", "nadam"))


def test_one_factor_has_the_variance_of_a_two_way_analysis_of_variance():
    rng = np.random.default_rng(1)
    one, other = ((rng.random((4, 50)) < rate + rng.normal(0, 0.1, (4, 1))) * 1.0 for rate in (0.7, 0.6))
    (estimate,) = effects([Cell({"optim": "a"}, one, "wxyz"), Cell({"optim": "b"}, other, "wxyz")], 0.005).main
    table = one - other
    by_seed, by_image = table.mean(axis=1), table.mean(axis=0)
    rest = table - by_seed[:, None] - by_image + table.mean()
    mean_square_of_seeds = 50 * by_seed.var(ddof=1)
    mean_square_of_rest = np.square(rest).sum() / (3 * 49)
    assert mean_square_of_seeds > mean_square_of_rest
    expected = by_image.var(ddof=1) / 50 + (mean_square_of_seeds - mean_square_of_rest) / (4 * 50)
    assert estimate.difference == pytest.approx(table.mean())
    assert estimate.variance == pytest.approx(expected)
    quantile = stats.t.ppf(0.975, estimate.degrees)
    assert (estimate.low, estimate.high) == pytest.approx(
        (table.mean() - quantile * expected**0.5, table.mean() + quantile * expected**0.5)
    )
    assert estimate.p == pytest.approx(2 * stats.t.sf(abs(table.mean()) / expected**0.5, estimate.degrees))


def repeated_measures(values: np.ndarray) -> pd.DataFrame:
    """The F tests of statsmodels, with seeds as subjects: the error of an effect is its interaction with the seed."""
    rows = [(*place, value) for place, value in np.ndenumerate(values)]
    table = pd.DataFrame(rows, columns=["backbone", "optim", "seed", "value"])
    return AnovaRM(table, "value", "seed", within=["backbone", "optim"]).fit().anova_table


def test_the_interaction_of_a_table_without_images_is_that_of_an_analysis_of_variance_of_repeated_measures():
    values = np.random.default_rng(2).normal(0.8, 0.01, (2, 3, 5))
    values[0, 0] += 0.02
    expected = repeated_measures(values).loc["backbone:optim"]
    (interaction,) = effects(study(values), None).interactions
    assert interaction.statistic == pytest.approx(expected["F Value"])
    assert 1 <= interaction.df <= expected["Num DF"] == 2
    (spherical,) = effects(study(values[:, :2]), None).interactions
    row = repeated_measures(values[:, :2]).loc["backbone:optim"]
    assert (spherical.df, spherical.df_denominator) == pytest.approx((1, 4))
    assert spherical.statistic == pytest.approx(row["F Value"])
    assert spherical.p == pytest.approx(row["Pr > F"])


def test_seed_effects_shared_within_a_level_make_level_by_seed_the_error_term():
    rng = np.random.default_rng(3)
    values = rng.normal(0.8, 0.001, (2, 4, 5)) + rng.normal(0, 0.02, (2, 1, 5))
    (estimate,) = [one for one in effects(study(values), None).main if one.factor == "backbone"]
    row = repeated_measures(values).loc["backbone"]
    assert (estimate.difference**2 / estimate.variance) == pytest.approx(row["F Value"])
    assert estimate.degrees == pytest.approx(row["Den DF"])
    assert estimate.p == pytest.approx(row["Pr > F"])


def test_seed_effects_common_to_all_cells_cancel_in_differences_even_with_a_lost_run():
    rng = np.random.default_rng(4)
    values = rng.normal(0.8, 0.005, (2, 3, 3))
    shared = values + np.array([0.0, 0.05, -0.1])
    results = []
    for one in (values, shared):
        cells = study(one)
        cells[0] = Cell(cells[0].levels, cells[0].runs[:2], range(2))
        results.append(effects(cells, 0.005))
    for one, other in zip(results[0].main, results[1].main, strict=True):
        assert other.difference == pytest.approx(one.difference)
        assert other.variance == pytest.approx(one.variance)
    assert of(results[0], "backbone", "0", "1").num_runs == 16  # the run that lost its partner goes too


def test_without_common_seeds_the_variances_of_the_cells_add_up():
    values = np.random.default_rng(5).normal(0.8, 0.01, (2, 2, 4))
    cells = [
        Cell(cell.levels, cell.runs, [(number, seed) for seed in range(4)]) for number, cell in enumerate(study(values))
    ]
    one = of(effects(cells, None), "optim", "0", "1")
    assert one.variance == pytest.approx(np.var(values, axis=2, ddof=1).sum() / 4 / 2**2)


def test_each_family_has_the_p_values_of_holm():
    estimates = effects(study(np.random.default_rng(6).normal(0.8, 0.01, (3, 3, 4))), 0.005)
    assert (len(estimates.main), len(estimates.simple), len(estimates.interactions)) == (6, 18, 1)
    for family in (estimates.main, estimates.simple):
        expected = multipletests([one.p for one in family], method="holm")[1]
        assert [one.p_holm for one in family] == pytest.approx(expected)


def test_the_holm_interval_excludes_zero_exactly_where_a_difference_is_significant():
    values = np.random.default_rng(14).normal(0.8, 0.002, (4, 3, 4)) + 0.004 * np.arange(4)[:, None, None]
    estimates = effects(study(values), 0.005)
    for family in (estimates.main, estimates.simple):
        is_rejected, *_ = multipletests([one.p for one in family], method="holm")
        assert 0 < sum(is_rejected) < len(family)
        for one, is_shown in zip(family, is_rejected, strict=True):
            low, high = one.holm_interval()
            assert (low > 0 or high < 0) == is_shown == (one.verdict in ("better", "worse"))
    first, *_, last = sorted(estimates.main, key=lambda one: one.p)
    half = stats.t.ppf(1 - 0.05 / 9 / 2, first.degrees) * first.standard_error  # 6 pairs of 4 levels and 3 pairs of 3
    assert first.holm_interval() == pytest.approx((first.difference - half, first.difference + half))
    num_left = 9 - sum(one.verdict in ("better", "worse") for one in estimates.main)
    assert last.level_holm == pytest.approx(0.05 / num_left)


def test_duplicate_images_count_once():
    rng = np.random.default_rng(15)
    cells = [Cell(cell.levels, (rng.random((3, 60)) < 0.8) * 1.0, range(3)) for cell in study(np.zeros((2, 3, 3)))]
    order = rng.permutation(600)  # duplicates in different positions
    copied = [Cell(cell.levels, np.repeat(cell.runs, 10, axis=1)[:, order], range(3)) for cell in cells]
    single, grouped = effects(cells, 0.005), effects(copied, 0.005, groups=np.repeat(np.arange(60), 10)[order])
    for one, other in zip([*single.main, *single.simple], [*grouped.main, *grouped.simple], strict=True):
        assert (other.low, other.high, other.p) == pytest.approx((one.low, one.high, one.p))
    assert grouped.interactions[0].p == pytest.approx(single.interactions[0].p)
    for one, other in zip(single.means, grouped.means, strict=True):
        assert (other.low, other.high) == pytest.approx((one.low, one.high))
    for one, other in zip(single.shares, grouped.shares, strict=True):
        assert other.fraction == pytest.approx(one.fraction)


def test_practically_equal_needs_both_one_sided_tests_adjusted_for_the_family():
    rng = np.random.default_rng(7)
    values = 0.8 + rng.normal(0, 0.002, (3, 2, 8))
    estimates = effects(study(values), 0.005)
    p_values = []
    for one in estimates.main:
        below = stats.t.cdf((one.difference - 0.005) / one.standard_error, one.degrees)
        above = stats.t.sf((one.difference + 0.005) / one.standard_error, one.degrees)
        p_values.append(max(below, above))
        assert one.p_equal == pytest.approx(p_values[-1])
    adjusted = multipletests(p_values, method="holm")[1]
    for one, p_equal in zip(estimates.main, adjusted, strict=True):
        assert (one.verdict == "practically equal") == (p_equal <= 0.05 < one.p_holm)
    assert any(one.verdict == "practically equal" for one in estimates.main)
    assert all(one.verdict != "practically equal" for one in effects(study(values), None).main)


def test_lower_losses_are_better():
    values = np.random.default_rng(8).normal(0.5, 0.001, (2, 2, 4))
    values[1] += 0.1
    assert of(effects(study(values), None), "backbone", "0", "1").verdict == "worse"
    assert of(effects(study(values), None, lower_is_better=True), "backbone", "0", "1").verdict == "better"


def test_simple_effects_are_those_of_the_cells_of_one_level():
    values = np.random.default_rng(9).normal(0.8, 0.001, (2, 2, 3))
    values[0, 0] += 0.05
    estimates = effects(study(values), None)
    expected = values.mean(axis=2)
    one = of(estimates, "optim", "0", "1", within="backbone=0")
    assert one.difference == pytest.approx(expected[0, 0] - expected[0, 1])
    assert one.matched == ((0, 1),)
    assert estimates.interactions[0].is_shown


def test_shares_are_those_of_the_variance_of_the_cell_means():
    # Cell means 0, 1, 3, 4 with an interaction of 2 in one cell: shares by hand, without seed or image variance.
    values = np.array([[[0.0, 0.0], [1.0, 1.0]], [[3.0, 3.0], [4.0, 4.0]]])
    values += np.array([[[-1e-6, 1e-6], [1e-6, -1e-6]], [[1e-6, -1e-6], [-1e-6, 1e-6]]])
    shares = {one.source: one.fraction for one in effects(study(values), None).shares}
    assert shares == pytest.approx(
        {"backbone": 0.9, "optim": 0.1, "interactions": 0, "seeds": 0, "images": 0}, abs=1e-5
    )
    values[1, 1] += 2.0  # backbone 4^2 / 4, optim 2^2 / 4, interaction (0 + 6 - 1 - 3)^2 / 16
    shares = {one.source: one.fraction for one in effects(study(values), None).shares}
    parts = np.array([4.0, 1.0, 0.25])
    assert [shares[key] for key in ("backbone", "optim", "interactions")] == pytest.approx(parts / 5.25, abs=1e-5)


def test_without_effects_seeds_and_images_explain_the_variance():
    rng = np.random.default_rng(10)
    totals = dict.fromkeys(("backbone", "optim", "interactions", "seeds", "images"), 0.0)
    for _ in range(50):
        cells = [Cell(cell.levels, (rng.random((3, 200)) < 0.8) * 1.0, range(3)) for cell in study(np.zeros((3, 3, 3)))]
        for one in effects(cells, None).shares:
            totals[one.source] += one.fraction / 50
    assert totals["images"] > 0.6
    assert sum(totals.values()) == pytest.approx(1)


def test_a_cell_with_one_run_is_left_out_and_identical_runs_have_an_interval():
    values = np.full((2, 2, 3), 0.8)
    cells = study(values, num_images=300)
    cells[1] = Cell(cells[1].levels, cells[1].runs[:1], [0])
    estimates = effects(cells, 0.05)
    assert estimates.left_out == (1,)
    assert of(estimates, "backbone", "0", "1").matched == ((0, 2),)
    one = of(estimates, "optim", "0", "1")
    assert one.matched == ((2, 3),)
    assert one.high == pytest.approx(3 / 300, rel=0.01)  # the rule of three
    assert estimates.interactions == []


@pytest.mark.parametrize(
    ("levels", "seeds", "message"),
    [
        ([{"a": "1"}, {"a": "1"}], [[1, 2]] * 2, "all cells must have the same factors, and no two the same levels"),
        ([{"a": "1"}, {"b": "1"}], [[1, 2]] * 2, "all cells must have the same factors, and no two the same levels"),
        ([{"a": "1"}, {"a": "2"}], [[1, 1]] * 2, "the runs of a cell must have different seed labels"),
    ],
)
def test_invalid_cells_raise_an_error(levels, seeds, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        FactorialDesign.of(levels, seeds)


@pytest.mark.parametrize("seed", range(5))
def test_the_complete_sub_design_is_a_largest_one(seed):
    rng = np.random.default_rng(seed)
    places = [place for place in itertools.product(range(3), range(3), range(2)) if rng.random() < 0.8]
    design = FactorialDesign.of(
        [dict(zip("fgh", map(str, place), strict=True)) for place in places], [range(2) for _ in places]
    )
    largest = 0
    subsets = [one for size in (2, 3) for one in itertools.combinations(range(3), size)]
    for first, second in itertools.product(subsets, subsets):
        rests = [rest for rest in range(2) if all((f, g, rest) in places for f in first for g in second)]
        largest = max(largest, len(rests) * len(first) * len(second))
    crossed = design.complete("f", "g")
    assert (crossed.num_cells if crossed else 0) == largest


def mixed_model(cells: list[Cell], factor: str) -> tuple[float, float, int]:
    """Return the difference of a factor's two levels and its standard error by REML on differences of matched cells.

    Images, matched cells x images and matched cells x seeds are random and crossed.
    """
    other = next(one for one in cells[0].levels if one != factor)
    rows = []
    for one, against in itertools.permutations(cells, 2):
        if one.levels[other] == against.levels[other] and one.levels[factor] < against.levels[factor]:
            for (seed, image), value in np.ndenumerate(one.runs - against.runs):
                rows.append((one.levels[other], seed, image, value, 1))
    table = pd.DataFrame(rows, columns=["cell", "seed", "image", "value", "all"])
    components = {"image": "0 + C(image)", "own": "0 + C(image):C(cell)", "seed": "0 + C(seed):C(cell)"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of statsmodels' own optimizer
        model = smf.mixedlm("value ~ C(cell, Sum)", table, groups="all", vc_formula=components, use_sparse=True)
        fitted = model.fit(reml=True, method="lbfgs")
    return float(fitted.fe_params["Intercept"]), float(fitted.bse_fe["Intercept"]), len(rows)


@pytest.mark.parametrize(("seed", "num_seeds", "num_images"), [(11, 3, 60), (12, 4, 40)])
def test_differences_and_their_errors_are_those_of_a_mixed_model(seed, num_seeds, num_images):
    rng = np.random.default_rng(seed)
    image, by_level = rng.normal(0, 1, num_images), rng.normal(0, 1, (2, num_images))
    cells = []
    for backbone, optim in itertools.product(range(2), range(2)):
        own, seeds = rng.normal(0, 1, num_images), rng.normal(0, 0.7, (num_seeds, 1))
        runs = 0.3 * optim + image + by_level[optim] + own + seeds + rng.normal(0, 1, (num_seeds, num_images))
        cells.append(Cell({"backbone": str(backbone), "optim": str(optim)}, runs, range(num_seeds)))
    estimate = of(effects(cells, None), "optim", "0", "1")
    difference, error, num_rows = mixed_model(cells, "optim")
    print(
        f"\n{num_rows} rows: {estimate.difference:+.4f} +- {estimate.standard_error:.4f}; {difference:+.4f} {error:.4f}"
    )
    assert estimate.difference == pytest.approx(difference, abs=1e-6)
    assert estimate.standard_error == pytest.approx(error, rel=0.01)


FAST = (
    "base, seed sd 0.3",
    "shared by a level, sd 0.8",
    "weights by 3 optimizers, sd 1 shared by the weights",
    "noisy level of 3",
    "incomplete: a level on half",
    "every fourth cell lost a seed",
    "unpaired",
    "main effects and an interaction",
)


@pytest.mark.parametrize("name", FAST)
def test_intervals_cover_and_few_studies_have_a_false_effect(name):
    num = 40
    figures = simulate(name, num)
    print(f"\n{figures}")
    assert figures["coverage_main"] >= 0.92
    assert figures["coverage_simple"] >= 0.92
    for key in ("false_main", "false_interaction", "false_simple", "false_equal"):
        assert lower_bound(figures[key], num) <= 0.05


def test_one_point_between_two_optimizers_is_detected_over_all_backbones():
    assert simulate("power: 1 point, seed sd 0.3", 40)["power_main"] >= 0.7
