"""Means of unlike backbones: chosen on validation, on simulated runs whose mistakes are known."""

import csv

import numpy as np
import pytest
from scipy import stats

from intel_scenes.errors import UserError
from results.backbones import analyse
from tests.studies.simulated_records import leave_run

NUM_VAL, NUM_TEST = 60, 120


def but(number, *wrong):
    """Return which of some images are classified correctly: all but the wrong ones."""
    right = np.ones(number, bool)
    right[list(wrong)] = False
    return right


def leave_study(study, mistakes):
    """Write two seeds of each backbone: `mistakes` gives the wrong validation images and the wrong test images."""
    for name, (val, test) in mistakes.items():
        for seed in (1, 2):
            wrong = [*test, NUM_TEST - seed]  # each seed has a mistake of its own
            typed = {"model": name, "seed": seed}
            leave_run(
                *(study, f"{name},seed={seed}", typed, but(NUM_TEST, *wrong)),
                **{"num_val": NUM_VAL, "val_right": but(NUM_VAL, *val), "model": name, "model_name": name},
            )


def test_sets_are_chosen_on_validation_and_the_test_split_is_read_for_these_alone(tmp_path):
    # The test split favours a, validation b. Images of the last class, whose mistakes win ties of two networks.
    leave_study(tmp_path, {"a": ([5, 11, 17, 23], []), "b": ([23], [5, 11]), "c": ([29, 35], [17, 23, 29])})
    rows = {row.members: row for row in analyse.rows_of(analyse.networks_of(tmp_path))}
    assert {name for name, row in rows.items() if row.chosen == analyse.BEST_SINGLE} == {"b"}
    assert {name for name, row in rows.items() if row.chosen == analyse.BEST_MEAN} == {"a + b + c"}
    assert rows["a + b + c"].val_accuracy == pytest.approx(1 - 1 / NUM_VAL)  # image 23, where a and b agree
    assert rows["a + b + c"].test_accuracy == pytest.approx(1 - 1 / NUM_TEST)
    assert rows["b"].test_accuracy == pytest.approx(1 - 3 / NUM_TEST)
    assert rows["a + b"].test_accuracy is None


def test_the_gain_of_the_mean_is_paired_over_images(tmp_path):
    leave_study(tmp_path, {"a": ([0], [0, 1, 2]), "b": ([1, 2], [3, 4]), "c": ([3, 4], [5])})
    rows = {row.members: row for row in analyse.rows_of(analyse.networks_of(tmp_path))}
    best = rows["a + b + c"]
    # Both seeds differ in the same three images of 120: the difference is 3 / 120, its error that of these images.
    differences = np.zeros(NUM_TEST)
    differences[:3] = 1
    assert best.over_single == pytest.approx(differences.mean())
    half = stats.t.ppf(0.975, NUM_TEST - 1) * stats.sem(differences)
    assert best.over_single - best.over_low == pytest.approx(half, rel=0.25)
    assert rows["a"].over_single is None


def test_backbones_without_common_seeds_are_refused(tmp_path):
    leave_study(tmp_path, {"a": ([0], []), "b": ([1], [])})
    leave_run(tmp_path, "a,seed=3", {"model": "a", "seed": 3}, but(NUM_TEST), num_val=NUM_VAL, model_name="a")
    with pytest.raises(UserError, match="needs the same two seeds or more for each backbone"):
        analyse.networks_of(tmp_path)


def test_the_command_writes_the_table_and_says_what_was_chosen(tmp_path, capsys):
    leave_study(tmp_path / "study", {"a": ([0], [0]), "b": ([1, 2], [1])})
    analyse.main([str(tmp_path / "study"), str(tmp_path)])
    written = list(csv.DictReader((tmp_path / "means.csv").read_text().splitlines()))
    assert [row["members"] for row in written] == ["a", "b", "a + b"]
    assert "a: validation 98.33%" in capsys.readouterr().out
