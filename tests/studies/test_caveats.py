import yaml

from intel_scenes import record
from intel_scenes.studies.comparison import compare
from tests.studies.made import leave


def test_an_arm_with_fewer_trials_is_not_tuned(tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"compared": ["optim"], "tuned": ["lr_scale"]}))
    for seed in (1, 2):
        for scale, val in ((0.1, 0.7), (1, 0.9), (10, 0.8)):
            leave(tmp_path, "sgd", seed, 0.8, typed={"lr_scale": scale}, val_accuracy=val)
        leave(tmp_path, "adam", seed, 0.8, typed={"lr_scale": 1}, val_accuracy=0.5)
    found = compare(tmp_path)
    assert found.arms[1].unequal == ["it had 1 trials in 2 runs, others 3 in 6"]
    assert [(pair.a, pair.b, pair.text) for pair in found.pairs] == [("sgd", "adam", "not tuned")]


def test_a_tuning_point_that_diverged_is_one_that_was_tried(tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"compared": ["optim"], "tuned": ["lr_scale"]}))
    for seed in (1, 2):
        for optim in ("sgd", "adam"):
            for scale, val in ((0.1, 0.7), (1, 0.8), (3, 0.9), (10, 0.5)):
                fate = {"status": "failed", "error": "e"} if (optim, scale) == ("sgd", 10) else {}
                share = 0.95 if optim == "sgd" else 0.5
                leave(tmp_path, optim, seed, share, typed={"lr_scale": scale}, val_accuracy=val, **fate)
    found = compare(tmp_path)
    assert [arm.unequal for arm in found.arms] == [[], []]
    assert "not tuned" not in [pair.text for pair in found.pairs]
    assert "sgd: failed 2 of 8" in found.problems


def test_a_general_method_below_its_special_case_makes_the_search_suspect(tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"compared": ["scheduler"], "tuned": ["lr_scale"]}))
    for seed in (1, 2):
        for scheduler, val in (("constant", 0.9), ("cosine", 0.8)):
            for scale in (1, 2, 3):
                typed = {"scheduler": scheduler, "lr_scale": scale}
                better = val + 0.01 * (scale == 2)
                leave(tmp_path, "sgd", seed, 0.9, typed=typed, val_accuracy=better, scheduler=scheduler)
    assert any("search space suspect" in line and "cosine below constant" in line for line in compare(tmp_path).notes)


def test_what_was_planned_and_is_not_there_is_named(tmp_path):
    plan = {"planned": ["optim=sgd,seed=1", "optim=nadam,seed=1"], "added": [{"runs": ["late"]}]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(plan))
    leave(tmp_path, "sgd", 1, 0.9)
    leave(tmp_path, "adam", 1, 0.9, status="interrupted")
    found = compare(tmp_path)
    assert "planned and not there: 2 of 3, optim=nadam,seed=1, late" in found.problems
    assert "not finished: optim=adam,seed=1" in found.problems


def test_an_arm_without_predictions_is_not_said_to_guess(tmp_path):
    for seed in (1, 2):
        leave(tmp_path, "sgd", seed, 0.9)
        (leave(tmp_path, "adam", seed, 0.8) / record.PREDICTIONS).unlink()
    assert not any("guessing" in line for line in compare(tmp_path).gaps)


def test_a_run_that_was_the_same_as_another_and_has_a_record_now_is_one_of_its_own(tmp_path):
    for seed in (1, 2):
        leave(tmp_path, "sgd", seed, 0.9)
    plan = {"planned": [], "twins": {"optim=sgd,seed=2": "optim=sgd,seed=1"}}
    (tmp_path / record.STUDY).write_text(yaml.safe_dump(plan))
    assert not any("changes nothing" in line for line in compare(tmp_path).notes)


def test_a_planned_run_that_is_the_same_as_another_is_not_missing(tmp_path):
    for seed in (1, 2):
        leave(tmp_path, "sgd", seed, 0.9)
    plan = {"planned": ["optim=sgd,seed=1", "optim=sgd,seed=2", "twin"], "twins": {"twin": "optim=sgd,seed=1"}}
    (tmp_path / record.STUDY).write_text(yaml.safe_dump(plan))
    found = compare(tmp_path)
    assert not any("planned and not there" in line for line in found.problems)
    assert any(line.endswith("changes nothing: twin is optim=sgd,seed=1") for line in found.notes)
