"""Studies whose primary metric is balanced accuracy: choice, comparison and wording."""

import csv
import json

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from intel_scenes import record
from intel_scenes.config import CompareConfig
from intel_scenes.studies.comparison import compare
from intel_scenes.studies.publish import compare_and_write
from intel_scenes.studies.render.answer import answer
from intel_scenes.studies.render.sentences import unplanned
from tests.studies.simulated_records import leave_run

COUNTS = (150, 100, 60, 40, 20, 10)
LABELS = np.repeat(np.arange(6), COUNTS)
PLAIN = CompareConfig(baseline=None, rope=0.5)


def leave_balanced(study, name, typed, right, **more):
    """Write a run whose validation images equal the test images."""
    of_val = {"num_val": len(right), "val_right": right, "labels": LABELS, "temperature": 1.0}
    balanced = balanced_accuracy_score(LABELS, np.where(right, LABELS, (LABELS + 1) % 6))
    accuracies = {f"{split}_balanced_accuracy": balanced for split in ("val", "test")}
    metrics = {"primary_metric": "balanced_accuracy", "val_balanced_accuracy_tta": balanced} | accuracies
    metrics |= dict.fromkeys(("val_accuracy", "val_accuracy_tta"), float(right.mean()))
    return leave_run(
        study,
        name,
        typed,
        right,
        **of_val,
        **(metrics | more),
    )


def leave_two(study, num_seeds=5, **more):
    """Write a study where sgd is better on the common classes and adam, by more, on the rarest; return the tables."""
    rng = np.random.default_rng(1)
    chances = {"sgd": (0.95, 0.95, 0.9, 0.9, 0.6, 0.3), "adam": (0.85, 0.85, 0.9, 0.9, 0.9, 0.8)}
    tables = {}
    for optim, of_class in chances.items():
        tables[optim] = rng.random((num_seeds, len(LABELS))) < np.array(of_class)[LABELS]
        for seed, row in enumerate(tables[optim], start=1):
            leave_balanced(study, f"{optim}-{seed}", {"optim": optim, "seed": seed}, row, optim=optim, **more)
    return tables


def balanced(table):
    return np.mean([table[:, label == LABELS].mean(axis=1) for label in range(6)], axis=0)


def test_arms_are_ranked_by_balanced_accuracy_and_compared_in_it(tmp_path):
    tables = leave_two(tmp_path)
    assert tables["sgd"].mean() > tables["adam"].mean() + 0.02
    comparison = compare(tmp_path)
    assert [arm.label for arm in comparison.arms] == ["adam", "sgd"]
    (pair,) = comparison.pairs
    assert pair.difference == pytest.approx((balanced(tables["adam"]) - balanced(tables["sgd"])).mean(), abs=1e-6)
    assert pair.text == "better"
    assert comparison.arms[0].tested.test_accuracy == pytest.approx(balanced(tables["adam"]).mean())
    assert comparison.arms[0].tested.estimate.value == pytest.approx(balanced(tables["adam"]).mean())


def test_the_same_runs_are_ranked_the_other_way_by_accuracy(tmp_path):
    leave_two(tmp_path, primary_metric=None)
    comparison = compare(tmp_path)
    assert [arm.label for arm in comparison.arms] == ["sgd", "adam"]
    assert comparison.pairs[0].difference > 0


def test_every_format_names_the_metric(tmp_path):
    leave_two(tmp_path)
    told = compare_and_write(tmp_path, CompareConfig(baseline="sgd", rope=0.5), form="table")
    assert "adam has the best balanced validation accuracy: " in told
    assert "Balanced test accuracy " in told
    assert "balanced val %" in told
    assert "balanced test %" in told
    assert "points of balanced accuracy" in told
    with (tmp_path / "pairwise.csv").open() as file:
        metrics = [row["metric"] for row in csv.DictReader(file)]
    assert metrics == ["test_balanced_accuracy", "val_balanced_accuracy", "val_loss_calibrated"]
    page = (tmp_path / "report.html").read_text()
    assert "Ranked by balanced validation accuracy; balanced test accuracy is reported only." in page
    assert "Difference in balanced test accuracy from " in page
    report = json.loads(compare_and_write(tmp_path, PLAIN, form="json"))
    one = report["configurations"][0]
    assert one["test_balanced_accuracy"] == pytest.approx(one["balanced_accuracy"])
    assert one["test_balanced_accuracy_interval"][0] < one["test_balanced_accuracy"]
    assert "test_accuracy" not in one


def test_differences_on_validation_weigh_classes_equally(tmp_path):
    tables = leave_two(tmp_path)
    (one,) = compare(tmp_path, baseline="sgd").on_validation
    assert one.accuracy.value == pytest.approx((balanced(tables["adam"]) - balanced(tables["sgd"])).mean(), abs=1e-6)


def test_effects_of_factors_are_those_on_balanced_accuracy(tmp_path):
    rng, means = np.random.default_rng(2), {}
    for model in ("resnet18", "resnet34"):
        for optim, share in (("sgd", 0.7), ("adamw", 0.9)):
            for seed in (1, 2, 3):
                row = rng.random(len(LABELS)) < np.where(LABELS == 5, share, 0.9)
                means.setdefault(optim, []).append(balanced(row[None])[0])
                typed = {"model": model, "optim": optim, "seed": seed}
                leave_balanced(
                    tmp_path, f"{model}-{optim}-{seed}", typed, row, model=model, model_name=model, optim=optim
                )
    comparison = compare(tmp_path)
    assert list(comparison.effects) == [
        *("test_balanced_accuracy", "test_loss_calibrated", "val_balanced_accuracy", "val_loss_calibrated")
    ]
    for metric in ("test_balanced_accuracy", "val_balanced_accuracy"):
        (one,) = [one for one in comparison.effects[metric].main if one.factor == "optim"]
        sign = 1 if one.level == "adamw" else -1
        assert sign * one.difference == pytest.approx(np.mean(means["adamw"]) - np.mean(means["sgd"]))
    assert any("balanced test accuracy" in line for line in answer(comparison))


def test_one_run_has_an_interval_over_classes(tmp_path):
    """Computed by hand: the variance of a mean over classes is the mean of their variances over their number."""
    right = np.ones(len(LABELS), bool)
    right[LABELS == 5] = np.arange(10) < 5
    leave_balanced(tmp_path, "a", {"optim": "sgd", "seed": 1}, right)
    (arm,) = compare(tmp_path).arms
    variance = 0.5 * 0.5 / 10 / 36
    share, z2 = 5.5 / 6, stats.norm.ppf(0.975) ** 2
    num = min(share * (1 - share) / variance, 36 / sum(1 / count for count in COUNTS))
    expected = stats.binomtest(round(1000 * share), 1000).proportion_ci(method="wilson")
    middle, half = share + z2 / (2 * num), np.sqrt(z2 * (share * (1 - share) / num + z2 / (4 * num * num)))
    assert arm.tested.interval == pytest.approx(((middle - half) / (1 + z2 / num), (middle + half) / (1 + z2 / num)))
    assert arm.tested.interval[0] < expected.low, "1,000 images would tell more"


def test_runs_of_another_metric_are_left_out_by_name(tmp_path):
    leave_two(tmp_path)
    leave_run(tmp_path, "plain", {"optim": "nadam", "seed": 1}, np.ones(len(LABELS), bool), labels=LABELS)
    comparison = compare(tmp_path)
    assert [arm.label for arm in comparison.arms] == ["adam", "sgd"]
    said = (
        "1 of 11 runs is left out, because the best epoch was not chosen by primary_metric=balanced_accuracy, as in "
        "most runs: plain"
    )
    assert said in unplanned(comparison.notices)


def test_a_balanced_accuracy_that_contradicts_the_predictions_takes_no_part_in_the_choice(tmp_path):
    leave_two(tmp_path, num_seeds=2)
    path = tmp_path / "sgd-1" / record.SUMMARY
    path.write_text(json.dumps(json.loads(path.read_text()) | {"val_balanced_accuracy_tta": 0.99}))
    comparison = compare(tmp_path)
    (line,) = [line for line in unplanned(comparison.notices) if "the predictions give" in line]
    assert line.startswith(
        "1 run is left out, because the record says val_balanced_accuracy_tta=0.9900 and the predictions give 0.7"
    )
