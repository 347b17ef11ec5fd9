import csv
import json
import re

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from intel_scenes.config import CompareConfig
from intel_scenes.studies.comparison import compare
from intel_scenes.studies.publish import compare_and_write
from intel_scenes.studies.render.answer import answer
from intel_scenes.studies.render.sentences import notes, problems, unplanned
from tests.studies.simulated_records import leave_run

OPTIONS = CompareConfig(baseline=None, rope=0.5)
NUM_TRAIN = 800  # all of them


def leave_curve(study, errors, *, seeds=(1, 2, 3), num_images=400, one_subset=False, **typed):
    """Write runs on fractions of the training images with roughly the given errors; both regimes share all images."""
    for fraction, error in errors.items():
        for seed in seeds:
            rng = np.random.default_rng(seed)
            wrong = rng.permutation(num_images) < round(error * num_images) + seed % 2
            keys = {"data.train_fraction": fraction, "seed": seed} | typed
            subset_seed = 0 if one_subset else seed
            order = f"{fraction} {subset_seed} {seed}"
            known = {"train_fraction": fraction, "subset_seed": subset_seed, "order_digest": order}
            name = ",".join(f"{key}={value}" for key, value in keys.items())
            digest = f"all images {seed}" if fraction == 1 else f"{name}"
            same = {"config_digest": digest, "configuration_digest": digest.replace(f"seed={seed}", "").rstrip("123 ")}
            leave_run(study, name, keys, ~wrong, num_train=round(fraction * NUM_TRAIN), **known, **same)


ERRORS = {0.125: 0.4, 0.25: 0.2828, 0.5: 0.2, 1: 0.1414}  # 4 n^-0.5


def test_the_gain_from_twice_the_images_is_that_of_the_power_law(tmp_path):
    leave_curve(tmp_path, ERRORS, num_images=4000)
    comparison = compare(tmp_path)
    (series,) = comparison.curves
    assert (series.label, series.sizes, series.num_seeds) == ("", (100, 200, 400, 800), 3)
    assert series.curve.exponent().value == pytest.approx(0.5, abs=0.01)
    low, high = series.curve.gain(800, 1600).interval()
    assert low < 0.1414 - 0.1 < high
    gain = "Twice the training images (1,600, extrapolated) would gain about +4.1 points of test accuracy"
    law = "If the power law error = 3.99 n^-0.499, fitted to 4 training set sizes, held exactly, the gain would be"
    interval = r"\+\d\.\d to \+\d\.\d"
    pattern = rf"{re.escape(gain)} \(95 % CI {interval}\)\. {re.escape(law)} \+4\.1 points \({interval}\)\."
    assert re.fullmatch(pattern, answer(comparison)[0])


def test_fractions_are_a_planned_factor_and_their_seeds_are_paired(tmp_path):
    leave_curve(tmp_path, ERRORS)
    comparison = compare(tmp_path)
    assert unplanned(comparison.notices) == problems(comparison.notices) == []
    assert [note for note in notes(comparison.notices) if not note.startswith("test images count")] == []
    assert {(pair.is_paired, pair.num_seeds) for pair in comparison.pairs} == {(True, (3, 3))}


def test_subsets_of_other_seeds_are_not_paired(tmp_path):
    leave_curve(tmp_path, {0.5: 0.2})
    leave_curve(tmp_path, {1: 0.15}, one_subset=True)
    (pair,) = compare(tmp_path).pairs
    assert not pair.is_paired


def test_all_images_are_the_last_point_of_both_curves(tmp_path):
    leave_curve(tmp_path, ERRORS, equal_steps="False")
    leave_curve(tmp_path, {key: 0.9 * error for key, error in ERRORS.items() if key < 1}, equal_steps="True")
    comparison = compare(tmp_path)
    assert [series.label for series in comparison.curves] == ["equal epochs", "equal steps"]
    epochs, steps = comparison.curves
    assert epochs.sizes == steps.sizes == (100, 200, 400, 800)
    assert epochs.configurations[-1] is steps.configurations[-1]
    assert epochs.configurations[0].test_accuracy < steps.configurations[0].test_accuracy
    assert [sentence.partition(" the training images")[0] for sentence in answer(comparison)[:2]] == [
        "With equal epochs, twice",
        "With equal steps, twice",
    ]


def test_one_subset_for_all_seeds_gives_a_notice(tmp_path):
    leave_curve(tmp_path, ERRORS, one_subset=True)
    assert (
        "All seeds share one subset, so the interval does not include the variance from drawing it"
        in answer(compare(tmp_path))[0]
    )


def test_with_three_sizes_the_report_says_that_the_law_is_assumed(tmp_path):
    leave_curve(tmp_path, {key: error for key, error in ERRORS.items() if key > 0.2})
    assert "fitted to 3 training set sizes, which are too few to test it." in answer(compare(tmp_path))[0]


def test_one_seed_gives_points_without_a_curve(tmp_path):
    leave_curve(tmp_path, ERRORS, seeds=(1,))
    comparison = compare(tmp_path)
    assert comparison.curves[0].curve is None
    assert answer(comparison)[0].startswith(
        "The gain from twice the training images is unknown: to fit a power law, all"
    )
    compare_and_write(tmp_path, OPTIONS)
    assert 'id="learning-curve"' in (tmp_path / "report.html").read_text()


def test_balanced_errors_weigh_classes_equally(tmp_path):
    labels = np.repeat([0, 1], [900, 100])
    rng = np.random.default_rng(1)
    for num_train, fraction, errors in ((200, 0.25, (0.1, 0.4)), (400, 0.5, (0.1, 0.3)), (800, 1, (0.1, 0.2))):
        for seed in (1, 2, 3):
            right = rng.random(1000) >= np.array(errors)[labels]
            balanced = balanced_accuracy_score(labels, np.where(right, labels, 1 - labels))
            keys = {"data.train_fraction": fraction, "seed": seed}
            of_metric = {f"{key}_balanced_accuracy": balanced for key in ("val", "test")}
            of_metric |= {"val_balanced_accuracy_tta": balanced, "val_accuracy_tta": 0.5}
            known = {"train_fraction": fraction, "subset_seed": seed, "num_train": num_train, "labels": labels}
            metric = {"primary_metric": "balanced_accuracy", **of_metric}
            leave_run(tmp_path, f"{fraction}-{seed}", keys, right, **known, **metric)
    comparison = compare(tmp_path)
    (series,) = comparison.curves
    measured = [one.test_accuracy for one in series.configurations]
    assert series.curve.errors == pytest.approx([1 - value for value in measured], abs=1e-6)
    assert series.curve.accuracy(800).value == pytest.approx(0.85, abs=0.03)
    assert "points of balanced test accuracy (95 % CI" in answer(comparison)[0]
    compare_and_write(tmp_path, OPTIONS)
    with (tmp_path / "learning_curve.csv").open() as file:
        assert float(next(csv.DictReader(file))["test_balanced_accuracy"]) == pytest.approx(measured[0])


def test_two_sizes_or_other_factors_give_no_curve(tmp_path):
    leave_curve(tmp_path / "two", {0.5: 0.2, 1: 0.14})
    assert compare(tmp_path / "two").curves == ()


def test_the_curve_is_on_the_page_in_the_table_and_in_json(tmp_path):
    leave_curve(tmp_path, ERRORS, num_images=4000)
    told = json.loads(compare_and_write(tmp_path, OPTIONS, form="json"))
    assert told["answer"][0].startswith("Twice the training images")
    with (tmp_path / "learning_curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], float(row["num_train"])) for row in rows] == [
        *(("measured", number) for number in (100, 200, 400, 800)),
        ("extrapolated", 1600),
    ]
    assert float(rows[3]["test_accuracy"]) == pytest.approx(1 - 0.1414, abs=0.001)
    assert rows[4]["test_accuracy"] == ""
    assert float(rows[4]["curve"]) == pytest.approx(0.9, abs=0.002)  # 4 of 40 misclassified at 1,600
    assert float(rows[0]["gain_of_twice"]) == pytest.approx(float(rows[4]["curve"]) - float(rows[3]["curve"]))
    assert [row["num_train"] for row in told["learning_curves"]] == [100, 200, 400, 800, 1600]
    page = (tmp_path / "report.html").read_text()
    specs = json.loads(page.split('id="specs">')[1].split("</script>")[0])
    dashes = [trace.get("line", {}).get("dash") for trace in specs["learning-curve"]["data"]]
    assert {"solid", "dash"} <= set(dashes)
    assert "Dashed: extrapolated" in page
    assert specs["learning-curve"]["layout"]["xaxis"]["type"] == "log"
