"""Effects of factors from records: which studies have them, and their values."""

import csv
import itertools
import json
import math
import shutil

import numpy as np
import pytest

from intel_scenes import record
from intel_scenes.config import CompareConfig
from intel_scenes.studies.comparison import compare
from intel_scenes.studies.publish import compare_and_write
from intel_scenes.studies.render.answer import answer
from intel_scenes.studies.render.sentences import notes, unplanned
from tests.studies.simulated_records import CLASSES, leave_run

OPTIONS = CompareConfig(baseline=None, rope=0.5)
METRICS = ("test_accuracy", "test_loss_calibrated", "val_accuracy", "val_loss_calibrated")
MODELS, OPTIMS = ("resnet18", "resnet34"), ("sgd", "adamw")


def leave_cell(study, model, optim, shares, **more):
    rng = np.random.default_rng([MODELS.index(model), OPTIMS.index(optim)] if optim in OPTIMS else 5)
    for seed, share in enumerate(shares, start=1):
        right = rng.permutation(200) < 200 * share
        names = {"model": model, "optim": optim, "model_name": model}
        leave_run(
            study, f"{model}-{optim}-{seed}", {"model": model, "optim": optim, "seed": seed}, right, **names, **more
        )


def leave_factorial(study, *, without=None, **more):
    for model in MODELS:
        for optim in OPTIMS:
            better = 0.2 * (optim == "adamw") + 0.1 * (model == "resnet34")
            if (model, optim) != without:
                leave_cell(study, model, optim, (0.6 + better, 0.61 + better, 0.62 + better), **more)


def test_levels_are_compared_over_matched_cells(tmp_path):
    leave_factorial(tmp_path)
    comparison = compare(tmp_path)
    of_test = comparison.effects["test_accuracy"]
    differences = {(one.factor, one.level, one.against): one.difference for one in of_test.main}
    assert differences == {
        ("model", "resnet18", "resnet34"): pytest.approx(-0.1),
        ("optim", "adamw", "sgd"): pytest.approx(0.2),
    }
    assert {one.num_cells for one in of_test.main} == {4}
    first, *_ = answer(comparison)
    assert first.startswith("optim: significant differences in test accuracy: adamw is better than sgd (+20.0 points; ")


def test_an_incomplete_design_compares_the_cells_that_match(tmp_path):
    leave_factorial(tmp_path)
    leave_cell(tmp_path, "resnet34", "nadam", (0.95, 0.96, 0.97))  # on the good backbone alone
    differences = {(one.level, one.against): one for one in compare(tmp_path).effects["test_accuracy"].main}
    nadam = differences["adamw", "nadam"]
    assert nadam.num_cells == 2
    assert nadam.difference == pytest.approx(0.91 - 0.96), "against resnet34 with adamw alone"


def test_a_study_without_crossed_factors_has_no_effects(tmp_path):
    leave_factorial(tmp_path, without=("resnet34", "adamw"))
    assert compare(tmp_path).effects == {}
    (tmp_path / "effects.csv").write_text("of an earlier comparison, when there were more runs\n")
    compare_and_write(tmp_path, OPTIONS)
    assert (tmp_path / "pairwise.csv").exists()
    assert not (tmp_path / "effects.csv").exists()


def test_records_without_a_temperature_have_only_effects_on_test_accuracy(tmp_path):
    leave_factorial(tmp_path)
    comparison = compare(tmp_path)
    assert list(comparison.effects) == ["test_accuracy"]
    assert any(
        line.startswith("effects on losses and on validation are not shown") for line in notes(comparison.notices)
    )


def figures(comparison, *, metrics=METRICS):
    """Return differences, intervals and p-values by metric and pair of levels."""
    return {
        (metric, one.factor, one.within): (one.difference, one.low, one.high, one.p)
        for metric in metrics
        for one in (*comparison.effects[metric].main, *comparison.effects[metric].simple)
    }


def leave_scored(study, *, copies=1, num_val=30, **more):
    """Write a factorial study with 60 test images, each `copies` times, some of them misclassified."""
    rng = np.random.default_rng(4)
    for model, optim in itertools.product(MODELS, OPTIMS):
        for seed in (1, 2, 3):
            right, val_right = rng.random(60) < 0.7, rng.random(30) < 0.7
            val_right = np.resize(val_right, num_val if model == "resnet18" else 30)
            of_val = {"num_val": len(val_right), "val_right": val_right, "val_accuracy": float(val_right.mean())}
            typed = {"model": model, "optim": optim, "seed": seed}
            names = {"model": model, "optim": optim, "model_name": more.get("model_name", model)}
            digests = {"init_digest": f"{more.get('start', str)(model)} {seed}"}
            name, times = f"{model}-{optim}-{seed}", np.tile(right, copies)
            leave_run(study, name, typed, times, temperature=1.5, **of_val, **names, **digests)


def rewrite(run, change):
    """Change the rows of a run's predictions."""
    path = run / record.PREDICTIONS
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *change(rows)]) + "\n")


def test_near_duplicate_test_images_count_once(tmp_path):
    leave_scored(tmp_path / "single")
    leave_scored(tmp_path / "copied", copies=10)
    paths = [f"{CLASSES[index % 6]}/test{index:05}.jpg" for index in range(600)]
    rows = [f"near,test,{paths[index]},test,{paths[index % 60]}" for index in range(60, 600)]
    (tmp_path / "audit.csv").write_text("\n".join(["kind,split,path,other_split,other_path", *rows]) + "\n")
    rewrite(tmp_path / "copied/resnet18-adamw-1", lambda rows: rows[::-1])  # the first run, whose order all others take
    single = figures(compare(tmp_path / "single"))
    copied = figures(compare(tmp_path / "copied", audit=tmp_path / "audit.csv"))
    for key, expected in single.items():
        assert copied[key] == pytest.approx(expected, abs=1e-7)


def test_rows_in_another_order_change_no_effect(tmp_path):
    leave_scored(tmp_path)
    expected = figures(compare(tmp_path))
    for seed in (1, 2, 3):
        rewrite(tmp_path / f"resnet34-sgd-{seed}", lambda rows: rows[::-1])
    by_key = figures(compare(tmp_path))
    for key, values in expected.items():
        assert by_key[key] == pytest.approx(values, abs=1e-7)


@pytest.mark.parametrize("num_val", [24, 30], ids=["another number", "as many others"])
def test_with_other_validation_images_there_are_only_effects_on_test(tmp_path, num_val):
    leave_scored(tmp_path, num_val=num_val)
    expected = figures(compare(tmp_path), metrics=METRICS[:2]) if num_val == 30 else None
    if num_val == 30:
        for run in tmp_path.glob("resnet34-*-?"):
            rewrite(run, lambda rows: [row.replace("/val", "/other") for row in rows])
    comparison = compare(tmp_path)
    assert tuple(comparison.effects) == ("test_accuracy", "test_loss_calibrated")
    assert expected in (None, figures(comparison, metrics=METRICS[:2]))
    reason = "the val images of resnet34-adamw-1 differ from those of the other runs"
    assert [line for line in notes(comparison.notices) if line.startswith("effects on")] == [
        f"effects on validation are not shown: {reason}"
    ]


def test_runs_of_a_seed_are_paired_even_with_different_initial_weights(tmp_path):
    # As with `model.weights=DEFAULT,null`: two initial weights for each seed within an architecture.
    leave_scored(tmp_path / "alike", model_name="resnet18", start=lambda model: "one")
    leave_scored(tmp_path / "apart", model_name="resnet18", start=lambda model: model)
    shutil.copytree(tmp_path / "alike", tmp_path / "old")
    summary = tmp_path / "old/resnet18-sgd-1" / record.SUMMARY
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"init_digest": None}))
    expected = compare(tmp_path / "alike").effects["test_accuracy"]
    for study in ("apart", "old"):
        assert compare(tmp_path / study).effects["test_accuracy"] == expected


def test_with_a_baseline_arms_are_compared_on_validation_beside_the_effects_on_all_metrics(tmp_path):
    leave_scored(tmp_path)
    comparison = compare(tmp_path, baseline="resnet18/sgd")
    assert len(comparison.on_validation) == 3
    assert tuple(comparison.effects) == METRICS


def test_all_metrics_are_in_files_and_json(tmp_path):
    leave_factorial(tmp_path, num_val=100, temperature=1.0, val_accuracy=1.0)
    told = json.loads(compare_and_write(tmp_path, OPTIONS, form="json"))
    with (tmp_path / "effects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("factor", "level", "against", "within", "metric", "difference", "low", "high", "p", "p_holm", "verdict"),
        *("num_cells", "num_runs", "low_holm", "high_holm"),
    ]
    assert tuple(dict.fromkeys(row["metric"] for row in rows)) == METRICS
    main = {(row["factor"], row["metric"]): float(row["difference"]) for row in rows if row["within"] == "all"}
    # The true class has probability 0.01 in misclassified images and about 0.95 in others: losses follow accuracies.
    loss = -0.2 * (math.log(0.95) - math.log(0.01))
    assert main["optim", "test_loss_calibrated"] == pytest.approx(loss, rel=1e-3)
    assert main["optim", "val_accuracy"] == pytest.approx(0)
    assert [one["verdict"] for one in told["effects"]] == [row["verdict"] for row in rows]
    with (tmp_path / "interactions.csv").open() as file:
        (first, *_) = csv.DictReader(file)
    assert list(first) == ["factors", "metric", "statistic", "df", "p", "p_holm"]
    assert first["factors"] == "model x optim"


def test_with_an_interaction_the_answer_has_the_simple_effects_and_no_main_effect(tmp_path):
    for model in MODELS:
        for optim in OPTIMS:
            better = 0.25 * (optim == "adamw") * (1 if model == "resnet34" else -1)
            leave_cell(tmp_path, model, optim, [0.6 + better + seed / 200 for seed in range(5)])
    comparison = compare(tmp_path)
    first, *others = answer(comparison)
    assert first.startswith("The effect of model depends on optim (interaction, p")
    assert "with model=resnet34, adamw is better than sgd (+25.0 points; " in first
    assert "with model=resnet18, sgd is better than adamw (+25.0 points; " in first
    assert not any(line.startswith(("model:", "optim:")) for line in others)


def test_factors_that_vary_together_are_an_unplanned_difference(tmp_path):
    for seed in (1, 2):
        for optim, size in (("sgd", 64), ("adamw", 96)):
            typed = {"optim": optim, "data.image_size": size, "seed": seed}
            right = np.random.default_rng(seed).random(60) < 0.8
            leave_run(tmp_path, f"{optim}{seed}", typed, right, optim=optim, image_size=size)
    said = "data.image_size and optim change together, so their effects cannot be separated"
    assert said in unplanned(compare(tmp_path).notices)


def test_levels_that_are_practically_equal_have_an_interval_within_the_margin(tmp_path):
    rng = np.random.default_rng(2)
    for model, share in zip(MODELS, (0.6, 0.8), strict=True):
        for optim in OPTIMS:
            for seed in range(1, 6):
                right = np.random.default_rng([seed, MODELS.index(model)]).random(3000) < share
                right[rng.integers(0, 3000, 6)] ^= True
                names = {"model": model, "optim": optim, "model_name": model}
                leave_run(
                    tmp_path, f"{model}-{optim}-{seed}", {"model": model, "optim": optim, "seed": seed}, right, **names
                )
    (of_optim,) = [one for one in compare(tmp_path).effects["test_accuracy"].main if one.factor == "optim"]
    assert of_optim.verdict == "practically equal"
    low, high = of_optim.verdict_interval()
    assert -0.005 < low < high < 0.005
