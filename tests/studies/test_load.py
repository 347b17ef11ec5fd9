import json

import pytest
import yaml

from intel_scenes import record
from intel_scenes.errors import UserError
from intel_scenes.studies.load import collect, load
from intel_scenes.studies.naming import varying
from intel_scenes.studies.render.sentences import sentence


def leave(study, name, overrides, **summary):
    (study / name).mkdir(parents=True)
    (study / name / record.OVERRIDES).write_text(yaml.safe_dump(overrides))
    numbers = {"val_accuracy": 1.0, "test_accuracy": 1.0}
    (study / name / record.SUMMARY).write_text(json.dumps({"config_digest": name, **numbers, **summary}))


def test_runs_with_a_record_are_collected_and_identical_ones_once(tmp_path):
    leave(tmp_path, "a", ["+optim=sgd", "seed=1"], status="completed")
    leave(tmp_path, "b", ["optim=adam", "seed=1"], status="failed")
    leave(tmp_path, "c", ["optim=adam", "seed=1", "lr_scale=1.0"], status="completed", config_digest="a")
    leave(tmp_path / ".replaced", "d", [], status="completed")
    (tmp_path / "e").mkdir()
    runs, notices = collect(tmp_path)
    assert [(run.name, run.is_completed) for run in runs] == [("a", True), ("b", False)]
    assert runs[0].overrides == {"optim": "sgd", "seed": "1"}
    assert runs[0].summary.val_loss is None
    said = [sentence(notice) for notice in notices]
    assert said == ["c is the same run as a and counted once", "e is left out: it has no summary.json"]


def test_a_missing_folder_has_no_runs(tmp_path):
    assert collect(tmp_path / "none") == ([], [])


def test_a_single_run_is_no_study_and_its_folder_is_named(tmp_path):
    leave(tmp_path, "a", [], status="completed")
    (tmp_path / "a/checkpoints").mkdir()
    with pytest.raises(UserError) as caught:
        load(tmp_path / "a")
    assert str(caught.value) == (
        f"{tmp_path}/a is a single run: set folder to one that holds several runs, such as {tmp_path}"
    )


def test_a_failed_run_without_a_digest_is_a_run_of_its_own(tmp_path):
    leave(tmp_path, "a", [], status="failed", config_digest=None)
    leave(tmp_path, "b", [], status="failed", config_digest=None)
    assert [run.name for run in collect(tmp_path)[0]] == ["a", "b"]


def test_factors_are_the_keys_that_vary_and_change_results(tmp_path):
    leave(tmp_path, "a", ["optim=sgd", "epochs=2", "data.root=/a"], status="completed")
    leave(tmp_path, "b", ["optim=adam", "epochs=2", "data.root=/b", "lr_scale=3"], status="completed")
    assert varying(collect(tmp_path)[0]) == ["lr_scale", "optim"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("val_accuracy", value) for value in (None, "a", 93.0, -0.1, float("nan"), True)),
        *(("seed", "one"), ("versions", []), ("parameters", "many"), ("classes", "abc"), ("config_digest", 3)),
        *(("test_duplicates", 3), ("data_fingerprint", []), ("images_per_second", {}), ("model", 1)),
    ],
)
def test_an_invalid_record_is_left_out_by_name(tmp_path, key, value):
    leave(tmp_path, "a", [], status="completed")
    leave(tmp_path, "b", [], status="completed", **{key: value})
    runs, notices = collect(tmp_path)
    assert [run.name for run in runs] == ["a"]
    (notice,) = notices
    assert sentence(notice).startswith(f"b is left out: {tmp_path}/b/summary.json ")
    assert key in sentence(notice)


def test_equal_numbers_are_one_level_in_any_notation(tmp_path):
    for name, text in (("a", "lr_scale=1"), ("b", "lr_scale=1.0"), ("c", "lr_scale=1e0")):
        leave(tmp_path, name, [text], status="completed")
    assert varying(collect(tmp_path)[0]) == []


def test_without_overrides_the_configuration_groups_are_the_factors(tmp_path):
    leave(tmp_path, "a", [], status="completed", optim="sgd", model="resnet18")
    leave(tmp_path, "b", [], status="completed", optim="adam", model="resnet18")
    assert varying(collect(tmp_path)[0]) == ["optim"]
