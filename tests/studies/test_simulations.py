"""A few cells of the grid with few studies and fixed seeds; `python -m tests.studies.grid` runs the whole grid."""

import numpy as np
import pytest

from intel_scenes.studies.statistics.crossed import Runs
from intel_scenes.studies.statistics.selection import cross_validated_choice
from tests.studies.grid import balanced_cells, bar, cells, promise, simulated, summary
from tests.studies.simulated import right

CELLS = {cell.name: cell for cell in [*cells(), *balanced_cells()]}


pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    [
        "2 arms, sd 1.0",
        "6 arms, sd 0.8",
        "12 arms, 4 noisy, sd 2.0 and 0.4",
        "unpaired, 2 noisy, sd 2.0 and 0.4",
        "lost, sd 1.0",
        "5 seeds, sd 1.0",
        "margin, 12 arms, 10 seeds, 10000 images",
        "tuned, 5 trials, fresh, sd 1.5 and 0.3",
        "balanced, 2 arms",
        "balanced, 6 arms, 20 images of the rarest class",
    ],
)
def test_few_studies_have_a_false_verdict_and_intervals_cover(name):
    figures = summary(CELLS[name], "after", 100 if "10000" in name else 60 if "balanced" in name else 200)
    assert figures["failed"] == ""


def test_the_earlier_rule_gives_false_verdicts_where_some_arms_are_noisy():
    cell = CELLS["12 arms, 4 noisy, sd 2.0 and 0.4"]
    wrong = [simulated(cell, method, 200)["false"].any(axis=1).mean() for method in ("before", "after")]
    assert wrong[0] > 0.09
    assert wrong[1] < bar(cell)


def test_the_present_rule_costs_little_power():
    power = [summary(CELLS["power, sd 0.3"], method, 200)["power"] for method in ("before", "after")]
    assert power[1] > power[0] - 0.06


def test_the_smallest_detectable_difference_is_detected_as_often_as_promised():
    power = promise(CELLS["6 arms, sd 0.3"], 40)[:, 1].mean()
    assert 0.68 < power < 0.94, "80 %, with a standard error of 4 %"


def test_tuning_seeds_are_no_evidence():
    name = "tuned, 16 trials, same, sd 1.5 and 0.3"
    assert simulated(CELLS[name], "after", 200)["false"].any(axis=1).mean() > 0.09


def test_the_cross_validated_accuracy_of_the_leader_is_not_optimistic():
    rng = np.random.default_rng(15)
    studies = [rng.normal(0, 1, (100, 5)) for _ in range(1000)]
    naive = np.mean([one.mean(axis=1).max() for one in studies])
    corrected = np.mean([cross_validated_choice(one) for one in studies])
    assert naive > 1
    assert abs(corrected) < 0.1


def test_a_balanced_difference_of_one_point_is_detected_in_a_quarter_of_studies_and_one_of_three_points_in_most():
    cells = [CELLS[f"balanced, power, 2 arms, {points}"] for points in ("1 point", "3 points")]
    power = [summary(cell, "after", 60)["power"] for cell in cells]
    assert 0.09 < power[0] < 0.43, "26 %, with a standard error of 6 %"
    assert power[1] > 0.92


def test_intervals_of_one_arm_cover_its_balanced_accuracy():
    cell = CELLS["balanced, 2 arms"]
    covered = 0
    for number in range(60):
        table = right(cell, np.random.default_rng([5, number]))[0]
        low, high = Runs.of(table, strata=cell.strata).mean(range(5)).interval()
        covered += low <= 0.9 <= high
        assert high - low < 0.06, "differences between classes are no sampling error"
    assert covered >= 53
