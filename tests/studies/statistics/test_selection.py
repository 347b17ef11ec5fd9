import itertools
from statistics import fmean

import numpy as np
import pytest

from intel_scenes.studies.statistics.selection import at_edge, best_of, beyond, cross_validated_choice, crossing


def test_the_expected_best_is_the_mean_over_all_subsets_of_the_trials():
    trials = [0.5, 0.9, 0.7, 0.7, 0.2]
    expected = [fmean(max(some) for some in itertools.combinations(trials, size)) for size in range(1, 6)]
    assert best_of(trials) == pytest.approx(expected)


def test_two_curves_cross_where_their_order_reverses():
    steady, lucky = best_of([0.8, 0.8, 0.8]), best_of([0.1, 0.2, 0.9])
    assert crossing(lucky, steady) == 3  # 0.4, 0.67 and 0.9 against 0.8
    assert crossing(steady, steady) is None


def test_the_choice_is_cross_validated_over_seeds():
    accuracies = np.array([[0.90, 0.80, 0.70], [0.60, 0.85, 0.90]])
    # Without seed 0 the second leads (0.60), without seed 1 the first (0.80), without seed 2 the first (0.70).
    assert cross_validated_choice(accuracies) == pytest.approx((0.60 + 0.80 + 0.70) / 3)
    assert cross_validated_choice(accuracies[:, :1]) is None


@pytest.mark.parametrize(
    ("chosen", "tried", "bounds", "edge"),
    [
        ("1", ["0.1", "1", "10"], None, False),
        ("10", ["0.1", "1", "10"], None, True),
        ("1e-1", ["0.1", "1", "10"], None, True),
        ("1", ["1"], None, False),
        ("linear", ["none", "linear"], None, False),
        ("0.2", ["0.2", "0.4"], (0.01, 100, 1), False),
        ("0.013", ["0.013", "0.4"], (0.01, 100, 1), True),
        ("9.8", ["9.8", "0.4"], (0, 10, 0), True),
    ],
)
def test_an_edge_is_the_end_of_the_grid_or_of_the_interval(chosen, tried, bounds, edge):
    assert at_edge(chosen, tried, bounds) is edge


@pytest.mark.parametrize(
    ("chosen", "tried", "expected"),
    [
        ("30", "0.03 0.1 0.3 1 3 10 30", "100"),
        ("0.03", "0.03 0.1 0.3 1 3 10 30", "0.01"),
        ("10", "0.1 0.3 1 3 10", "30"),
        ("3", "0.3 1 3", "10"),
        ("0.3", "0.3 1 3", "0.1"),
        ("1000", "1 10 100 1000", "10000"),
        ("16", "16 32 64", "8"),
        ("0.003", "0.001 0.002 0.003", "0.004"),
        ("0.001", "0.001 0.002 0.003", "0.0005"),  # one step further is no rate
        ("2", "1 2", "4"),
        ("0.1", "0 0.1", None),
    ],
)
def test_a_grid_is_extended_beyond_its_edge(chosen, tried, expected):
    assert beyond(chosen, tried.split()) == expected
    assert beyond(chosen, tried.split()[::-1]) == expected
