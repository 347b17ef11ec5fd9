import json

import yaml

from intel_scenes import record
from intel_scenes.studies.collect import NUMBERS, collect, history, varying


def leave(study, name, overrides, **summary):
    (study / name).mkdir(parents=True)
    (study / name / record.OVERRIDES).write_text(yaml.safe_dump(overrides))
    numbers = dict.fromkeys(NUMBERS, 1.0)
    (study / name / record.SUMMARY).write_text(json.dumps({"config_digest": name, **numbers, **summary}))


def test_runs_with_a_record_are_found_and_one_of_two_alike(tmp_path):
    leave(tmp_path, "a", ["+optim=sgd", "seed=1"], status="completed")
    leave(tmp_path, "b", ["optim=adam", "seed=1"], status="failed")
    leave(tmp_path, "c", ["optim=adam", "seed=1", "lr_scale=1.0"], status="completed", config_digest="a")
    leave(tmp_path / ".replaced", "d", [], status="completed")
    (tmp_path / "e").mkdir()
    runs, problems = collect(tmp_path)
    assert [(run.name, run.is_completed) for run in runs] == [("a", True), ("b", False)]
    assert runs[0].overrides == {"optim": "sgd", "seed": "1"}
    assert runs[0].summary["val_loss"] is None
    assert problems == ["c is the same run as a and counted once"]


def test_a_failed_run_without_a_digest_is_no_other_run(tmp_path):
    leave(tmp_path, "a", [], status="failed", config_digest=None)
    leave(tmp_path, "b", [], status="failed", config_digest=None)
    assert [run.name for run in collect(tmp_path)[0]] == ["a", "b"]


def test_factors_are_what_differs_and_has_an_effect(tmp_path):
    leave(tmp_path, "a", ["optim=sgd", "epochs=2", "data.root=/a"], status="completed")
    leave(tmp_path, "b", ["optim=adam", "epochs=2", "data.root=/b", "lr_scale=3"], status="completed")
    assert varying(collect(tmp_path)[0]) == ["lr_scale", "optim"]


def test_a_history_is_read_by_column_and_a_broken_one_is_none(tmp_path):
    head = ",".join(record.HISTORY_COLUMNS)
    (tmp_path / record.HISTORY).write_text(f"{head}\n0,10,0.1,1,0.5,0.6,1,0.55,90\n1,20,0.1,1,0.6,0.7,1,0.65,90\n")
    assert history(tmp_path)["val_accuracy"] == [0.55, 0.65]
    (tmp_path / record.HISTORY).write_text(f"{head}\n0,10")
    assert history(tmp_path) == {}
    assert history(tmp_path / "none") == {}
