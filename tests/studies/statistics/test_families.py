import numpy as np
import pytest

from intel_scenes.studies.statistics.estimates import mean_accuracy
from intel_scenes.studies.statistics.families import moderated, unsteady

ROWS = np.array([0.90, 0.93, 0.91, 0.97])  # accuracies of four seeds


def test_among_several_differences_the_spread_of_seeds_leans_on_the_others():
    differences = [mean_accuracy(np.repeat(rows[:, None] - 0.9, 20, axis=1)) for rows in (ROWS, ROWS[:3])]
    own = [20 * ROWS.var(ddof=1), 20 * ROWS[:3].var(ddof=1)]
    family, prior = sum(own) / 2, 4  # of six arms with three seeds: the least of 4 and (6 - 2) (3 - 1)
    for found, mine, degrees in zip(moderated(differences, 6), own, (3, 2), strict=True):
        expected = (prior * family + degrees * mine) / (prior + degrees)
        assert found.variance == pytest.approx(expected / (20 * (degrees + 1)))
        assert found.degrees_of_freedom == prior + degrees
    assert moderated(differences, 2) == differences
    assert moderated(differences, 3)[0].degrees_of_freedom == 3 + (3 - 2) * (3 - 1)


def test_an_arm_that_spreads_far_more_than_the_others_is_unsteady():
    calm = [np.array([0.90, 0.91, 0.92]), np.array([0.80, 0.82, 0.81]), np.array([0.85, 0.86, 0.84])]
    assert unsteady([*calm, np.array([0.2, 0.9, 0.5])]) == [False, False, False, True]
    assert unsteady([*calm, np.array([0.9])]) == [False] * 4
    assert unsteady([calm[0], np.array([0.2, 0.9, 0.5])]) == [False, False], "of two, none is like the others"
