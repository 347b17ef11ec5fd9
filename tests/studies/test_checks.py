import json

import pytest
import yaml

from intel_scenes import record
from intel_scenes.studies.comparison import compare
from intel_scenes.studies.render.sentences import gaps, notes, problems, unplanned
from tests.studies.simulated_records import leave


def test_an_arm_with_fewer_trials_is_not_comparable(tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"compared": ["optim"], "tuned": ["lr_scale"]}))
    for seed in (1, 2):
        for scale, val in ((0.1, 0.7), (1, 0.9), (10, 0.8)):
            leave(tmp_path, "sgd", seed, 0.8, typed={"lr_scale": scale}, val_accuracy=val)
        leave(tmp_path, "adam", seed, 0.8, typed={"lr_scale": 1}, val_accuracy=0.5)
    comparison = compare(tmp_path)
    assert "adam is not comparable, because it had fewer trials than others: 1 in 2 runs, not 3 in 6" in problems(
        comparison.notices
    )
    assert [(pair.a, pair.b, pair.text) for pair in comparison.pairs] == [("sgd", "adam", "not tuned")]


@pytest.mark.parametrize("compared", ["optim", "scheduler"])
@pytest.mark.parametrize("rates", [(1,), (1, 3)])
def test_the_rates_of_optimizers_that_were_not_tuned_are_told_with_the_answer(tmp_path, compared, rates):
    for seed in (1, 2):
        for level, lr in (("a", 0.001), ("b", 0.0003)):
            for scale in rates:
                typed = {compared: level, "lr_scale": scale}
                leave(tmp_path, "a", seed, 0.8, typed=typed, val_accuracy=0.5 + 0.1 * scale, lr=lr * scale)
    told = [line for line in gaps(compare(tmp_path).notices) if "rates" in line]
    assert told == (
        [
            "the order of the optimizers may come from learning rates that were not tuned (a: 0.001; b: 0.0003): "
            "study=optimizers tunes them"
        ]
        if (compared, rates) == ("optim", (1,))
        else []
    )


def test_a_trial_that_diverged_counts_as_a_trial(tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"compared": ["optim"], "tuned": ["lr_scale"]}))
    for seed in (1, 2):
        for optim in ("sgd", "adam"):
            for scale, val in ((0.1, 0.7), (1, 0.8), (3, 0.9), (10, 0.5)):
                fate = {"status": "failed", "error": "e"} if (optim, scale) == ("sgd", 10) else {}
                share = 0.95 if optim == "sgd" else 0.5
                leave(tmp_path, optim, seed, share, typed={"lr_scale": scale}, val_accuracy=val, **fate)
    comparison = compare(tmp_path)
    assert [arm.is_unequal for arm in comparison.arms] == [False, False]
    assert "not tuned" not in [pair.text for pair in comparison.pairs]
    assert "sgd: 2 of 8 runs failed" in problems(comparison.notices)


def test_a_general_method_worse_than_its_special_case_makes_the_search_space_suspect(tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"compared": ["scheduler"], "tuned": ["lr_scale"]}))
    for seed in (1, 2):
        for scheduler, val in (("constant", 0.9), ("cosine", 0.8)):
            for scale in (1, 2, 3):
                typed = {"scheduler": scheduler, "lr_scale": scale}
                better = val + 0.01 * (scale == 2)
                leave(tmp_path, "sgd", seed, 0.9, typed=typed, val_accuracy=better, scheduler=scheduler)
    assert any(
        "the search space may be too small" in line and "cosine below constant" in line
        for line in notes(compare(tmp_path).notices)
    )


def test_planned_runs_without_a_record_are_named(tmp_path):
    plan = {"planned": ["optim=sgd,seed=1", "optim=nadam,seed=1"], "added": [{"runs": ["late"]}]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(plan))
    leave(tmp_path, "sgd", 1, 0.9)
    leave(tmp_path, "adam", 1, 0.9, status="interrupted")
    comparison = compare(tmp_path)
    assert "2 of 3 planned runs have no record: optim=nadam,seed=1, late" in problems(comparison.notices)
    assert "1 run is not finished: optim=adam,seed=1" in problems(comparison.notices)


def test_an_arm_without_predictions_is_not_reported_at_chance_level(tmp_path):
    for seed in (1, 2):
        leave(tmp_path, "sgd", seed, 0.9)
        (leave(tmp_path, "adam", seed, 0.8) / record.PREDICTIONS).unlink()
    assert not any("no better than chance" in line for line in gaps(compare(tmp_path).notices))


def test_a_run_listed_as_identical_to_another_counts_once_it_has_a_record(tmp_path):
    for seed in (1, 2):
        leave(tmp_path, "sgd", seed, 0.9)
    plan = {"planned": [], "twins": {"optim=sgd,seed=2": "optim=sgd,seed=1"}}
    (tmp_path / record.STUDY).write_text(yaml.safe_dump(plan))
    assert not any("planned runs repeat others" in line for line in notes(compare(tmp_path).notices))


def test_a_planned_run_that_is_identical_to_another_is_not_missing(tmp_path):
    for seed in (1, 2):
        leave(tmp_path, "sgd", seed, 0.9)
    plan = {"planned": ["optim=sgd,seed=1", "optim=sgd,seed=2", "twin"], "twins": {"twin": "optim=sgd,seed=1"}}
    (tmp_path / record.STUDY).write_text(yaml.safe_dump(plan))
    comparison = compare(tmp_path)
    assert not any("planned runs have no record" in line for line in problems(comparison.notices))
    assert any(line.endswith("has no effect: twin repeats optim=sgd,seed=1") for line in notes(comparison.notices))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("image_size", 96, "image size: 64 (sgd), 96 (adam)"),
        ("epochs", 5, "epochs: 2 (sgd), 5 (adam)"),
        ("batch_size", 64, "batch size: 32 (sgd), 64 (adam)"),
        ("num_train", 500, "training images: 600 (sgd), 500 (adam)"),
        ("precision", "bf16-mixed", "precision: 32-true (sgd), bf16-mixed (adam)"),
        ("threads", 2, "threads: 1 (sgd), 2 (adam)"),
        ("package_version", "0.2.0", "package version: 0.1.0 (sgd), 0.2.0 (adam)"),
        ("versions", {"torch": "2.15.0"}, "torch: 2.14.1 (sgd), 2.15.0 (adam)"),
        ("temperature", 2.0, None),
        ("weights", "own.pth", "initial weights of resnet18: random (sgd), own.pth (adam)"),
    ],
)
def test_a_setting_that_differs_between_arms_is_an_unplanned_difference(tmp_path, key, value, said):
    for seed in (1, 2):
        leave(tmp_path, "sgd", seed, 0.8, num_train=600)
        leave(tmp_path, "adam", seed, 0.7, **{"num_train": 600, key: value})
    lines = unplanned(compare(tmp_path).notices)
    assert lines == ([said] if said else []), "a value that one record lacks is no difference"


def test_a_setting_that_is_a_factor_is_planned(tmp_path):
    for seed in (1, 2):
        for size in (64, 96):
            leave(tmp_path, "sgd", seed, 0.8, typed={"data.image_size": size}, image_size=size)
    assert unplanned(compare(tmp_path).notices) == []


def test_runs_of_uncommitted_code_are_named(tmp_path):
    for seed in (1, 2):
        leave(tmp_path, "sgd", seed, 0.8, git_dirty=seed == 2)
        leave(tmp_path, "adam", seed, 0.7, git_dirty=False)
    said = "1 of 4 runs had uncommitted changes in the code: optim=sgd,seed=2"
    assert unplanned(compare(tmp_path).notices) == [said]


def test_a_seed_counts_once(tmp_path):
    for number in (1, 2, 3):
        folder = leave(tmp_path, "sgd", number, 0.8 + number / 100)
        summary = json.loads((folder / record.SUMMARY).read_text())
        (folder / record.SUMMARY).write_text(json.dumps(summary | {"seed": 1}))
    leave(tmp_path, "adam", 1, 0.8)
    comparison = compare(tmp_path)
    assert {arm.label: len(arm.chosen.runs) for arm in comparison.arms} == {"sgd": 1, "adam": 1}
    runs = "optim=sgd,seed=2, optim=sgd,seed=3"
    expected = f"2 runs are left out, because optim=sgd,seed=1 has seed 1 too, and a seed counts once: {runs}"
    assert expected in unplanned(comparison.notices)


def test_a_baseline_that_is_named_after_the_results_gives_a_notice(tmp_path):
    for seed in (1, 2):
        leave(tmp_path, "sgd", seed, 0.8)
        leave(tmp_path, "adam", seed, 0.7)
    late = [
        line
        for line in problems(compare(tmp_path, baseline="sgd").notices)
        if "was first named now, when 4 runs" in line
    ]
    assert len(late) == 1
    first = [{"label": "sgd", "date": "2026-01-01T00:00:00+00:00", "num_completed": 0, "num_confirming": 0}]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"baselines": first}))
    assert not any("was first named" in line for line in problems(compare(tmp_path, baseline="sgd").notices))
