import numpy as np
import pytest
from scipy import stats

from intel_scenes.studies.statistics.crossed import Runs
from intel_scenes.studies.statistics.learning_curve import learning_curve
from tests.studies.curve_grid import TRUTHS, covered, simulated

SIZES = [100, 200, 400, 800, 1600]


def tables(*num_wrong, num_seeds=3, num_images=10_000):
    """Each seed has the same images wrong, so many of them at each number of training images."""
    rows = [np.arange(num_images) < number for number in num_wrong]
    return np.stack([np.tile(row, (num_seeds, 1)) for row in rows]).astype(np.float32)


def test_errors_on_a_power_law_give_its_parameters_and_gain():
    curve = learning_curve(SIZES, tables(1600, 800, 400, 200, 100))  # 16 / n: 16 % at 100 images, 1 % at 1,600
    assert curve.exponent().value == pytest.approx(1)
    assert curve.scale == pytest.approx(16)
    assert curve.bend().value == pytest.approx(0, abs=1e-9)
    assert curve.gain(1600, 3200).value == pytest.approx(0.005)
    assert curve.gain(1600, 3200, is_straight=True).value == pytest.approx(0.005)
    assert curve.accuracy(200).value == pytest.approx(0.92)


def test_a_curve_with_a_floor_predicts_less_gain_than_the_power_law():
    curve = learning_curve(SIZES, tables(1600, 900, 550, 380, 290))
    slope, _, _, _, _ = stats.linregress(np.log(SIZES), np.log([0.16, 0.09, 0.055, 0.038, 0.029]))
    assert curve.exponent().value == pytest.approx(-slope)
    a, b, c = np.polyfit(np.log(SIZES), np.log([0.16, 0.09, 0.055, 0.038, 0.029]), 2)
    assert curve.bend().value == pytest.approx(a)
    after = np.exp(np.polyval([a, b, c], np.log(3200)))
    before = np.exp(np.polyval([a, b, c], np.log(1600)))
    assert curve.gain(1600, 3200).value == pytest.approx(before - after)
    assert curve.gain(1600, 3200).value < curve.gain(1600, 3200, is_straight=True).value


def test_the_interval_of_a_gain_follows_the_delta_method():
    rng = np.random.default_rng(4)
    wrong = (rng.random((5, 4, 2000)) < np.array([0.3, 0.22, 0.15, 0.11, 0.08])[:, None, None]).astype(np.float32)
    curve = learning_curve(SIZES, wrong)
    derivatives = []
    for place in range(5):  # one more image wrong at one number of images, of 8,000
        more = wrong.copy()
        more[place, 0, np.argmin(more[place, 0])] = 1
        shifted = learning_curve(SIZES, more)
        derivatives.append((shifted.gain(1600, 3200).value - curve.gain(1600, 3200).value) * 8000)
    expected = Runs.of(np.tensordot(derivatives, wrong, axes=1)).mean(range(4))
    estimate = curve.gain(1600, 3200)
    assert estimate.variance == pytest.approx(expected.variance, rel=0.01)
    assert estimate.degrees_of_freedom == pytest.approx(expected.degrees_of_freedom, rel=0.01)
    assert np.mean(estimate.interval()) == pytest.approx(estimate.value)


@pytest.mark.parametrize("num_sizes", [3, 4])
def test_with_four_sizes_the_power_law_is_not_assumed(num_sizes):
    rng = np.random.default_rng(5)
    chances = np.array([0.16, 0.11, 0.08, 0.06])[:num_sizes, None, None]
    curve = learning_curve(SIZES[:num_sizes], (rng.random((num_sizes, 3, 500)) < chances).astype(np.float32))
    assert curve.may_bend == (num_sizes == 4)
    widths = [np.ptp(curve.gain(800, 1600, is_straight=is_straight).interval()) for is_straight in (False, True)]
    assert (widths[0] > 2 * widths[1]) == (num_sizes == 4)


def test_two_sizes_one_seed_or_no_errors_give_no_curve():
    assert learning_curve([1, 2], tables(20, 10)) is None
    assert learning_curve([1, 2, 4], tables(30, 20, 10, num_seeds=1)) is None
    assert learning_curve([1, 2, 4], tables(30, 20, 0)) is None
    assert learning_curve([1, 2, 4], tables(30, 20, 10)) is not None


@pytest.mark.parametrize("name", ["1,500 test images", "floor 4 %, b 0.5"])
def test_intervals_cover_the_truth_with_and_without_a_floor(name):
    (truth,) = (one for one in TRUTHS if one.name == name)
    intervals = simulated(truth, 30)
    assert covered(intervals[:, 0], truth.gain) >= 0.9
    assert (covered(intervals[:, 1], truth.gain) < 0.5) == bool(truth.floor), "intervals that assume the power law"
