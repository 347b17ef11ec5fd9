"""Properties of the statistics on made studies whose truth is known.

`pytest tests/studies/test_simulations.py -n 0 -s` prints all figures.
"""

import itertools

import numpy as np
import pytest

from intel_scenes.studies.statistics.estimates import Components, moderated, paired_difference, unpaired_difference
from intel_scenes.studies.statistics.selection import choice_paid_for
from intel_scenes.studies.statistics.verdicts import Design, judge
from tests.studies.simulated import shift_for, table, world

NUM, FAMILIES = 2000, 1000
SEEDS, SPREADS = (3, 5, 10), (0.0, 0.3, 0.8)
FORMULAS = {"paired": paired_difference, "unpaired": unpaired_difference}


@pytest.mark.parametrize("pairing", FORMULAS)
@pytest.mark.parametrize("seed_sd", SPREADS)
@pytest.mark.parametrize("num_seeds", SEEDS)
def test_the_interval_of_a_difference_covers_the_truth(num_seeds, seed_sd, pairing):
    rng = np.random.default_rng([11, num_seeds, int(10 * seed_sd), pairing == "paired"])
    hits, widths = 0, []
    for _ in range(NUM):
        images = world(rng, 1500)
        one, other = (table(rng, images, num_seeds, seed_sd) for _ in range(2))
        low, high = FORMULAS[pairing](one, other).interval()
        hits += low <= 0 <= high
        widths.append(100 * (high - low))
    print(f"\n{num_seeds} seeds, sd {seed_sd}, {pairing}: {hits / NUM:.1%}, width {np.mean(widths):.2f} points")
    assert 0.92 <= hits / NUM <= 0.98
    if (num_seeds, seed_sd) == (10, 0.0):
        assert np.mean(widths) <= 1.60


def study(rng, shifts, num_seeds, seed_sd, pairing="paired"):
    images = world(rng, 1500)
    tables = [table(rng, images, num_seeds, seed_sd, shift) for shift in shifts]
    pairs = list(itertools.combinations(range(len(tables)), 2))
    differences = moderated([FORMULAS[pairing](tables[one], tables[other]) for one, other in pairs])
    verdicts = [verdict.text for verdict in judge(differences, 0.005)]
    return pairs, differences, verdicts


@pytest.mark.parametrize("pairing", FORMULAS)
@pytest.mark.parametrize("seed_sd", SPREADS)
@pytest.mark.parametrize("num_seeds", SEEDS)
def test_of_six_equal_configurations_none_is_called_better(num_seeds, seed_sd, pairing):
    rng = np.random.default_rng([12, num_seeds, int(10 * seed_sd)])
    wrong = 0
    for _ in range(FAMILIES):
        *_, verdicts = study(rng, [0.0] * 6, num_seeds, seed_sd, pairing)
        wrong += bool({"better", "worse"} & set(verdicts))
    print(f"\nsix equal, {num_seeds} seeds, sd {seed_sd}, {pairing}: {wrong / FAMILIES:.1%} with a false verdict")
    assert wrong / FAMILIES <= 0.06


@pytest.mark.parametrize("points", [1, 2])
def test_one_better_configuration_is_found_as_often_as_the_plan_promises(points):
    rng, found, parts = np.random.default_rng([13, points]), [], []
    for _ in range(FAMILIES):
        pairs, differences, verdicts = study(rng, [shift_for(points), *[0.0] * 5], 10, 0.3)
        of_first = [place for place, pair in enumerate(pairs) if pair[0] == 0]
        found.append(np.mean([verdicts[place] == "better" for place in of_first]))
        components = [differences[place].components for place in of_first]
        parts.append([np.mean([getattr(one, name) for one in components]) for name in ("seed", "image", "rest")])
    seed, image, rest = map(float, np.mean(parts, axis=0))
    promised = Design(Components(seed, image, rest, 1500), 6).power_of_leader(points / 100, 10)
    print(f"\n{points} points: better in {np.mean(found):.1%} of the five pairs, promised {promised:.1%}")
    assert abs(np.mean(found) - promised) <= 0.03
    if points == 2:
        assert np.mean(found) >= 0.95


def test_a_difference_as_large_as_the_rope_is_seldom_practically_equal():
    rng, shift, equal = np.random.default_rng(14), shift_for(0.5), 0
    for _ in range(FAMILIES):
        images = world(rng, 3000)
        one, other = table(rng, images, 10, 0.3, shift), table(rng, images, 10, 0.3)
        equal += judge([paired_difference(one, other)], 0.005)[0].text == "practically equal"
    print(f"\na true difference of 0.5 points: practically equal in {equal / FAMILIES:.1%}")
    assert equal / FAMILIES <= 0.05


def test_the_corrected_accuracy_of_a_chosen_leader_has_no_advantage():
    rng = np.random.default_rng(15)
    studies = [rng.normal(0, 1, (100, 5)) for _ in range(1000)]
    naive = np.mean([one.mean(axis=1).max() for one in studies])
    corrected = np.mean([choice_paid_for(one) for one in studies])
    print(f"\nleader of 100 equal configurations: naive {naive:+.2f}, corrected {corrected:+.2f} seed sd")
    assert naive > 1
    assert abs(corrected) < 0.1
