from dataclasses import replace

import pytest
import yaml

from intel_scenes import record
from intel_scenes.config import StudyConfig
from intel_scenes.record import Confirmation, ConfirmedArm, Interval
from intel_scenes.sweeps import plan
from tests.small import asked
from tests.studies.simulated_records import leave_run, right


def compose(overrides):
    return asked(*overrides)


def written(folder, command, question=None, compared=(), tuned=()):
    study = StudyConfig(question, compared, tuned)
    plan.write(folder, {name: [f"seed={name}"] for name in command}, study, {}, threads=1)
    return yaml.safe_load((folder / record.STUDY).read_text())


def test_a_plan_says_which_metric_chooses_and_is_compared(tmp_path):
    plan.write(tmp_path, {"1": []}, StudyConfig(None, (), ()), {}, threads=1, primary_metric="balanced_accuracy")
    said = "val_balanced_accuracy_tta chooses, test_balanced_accuracy of what was chosen is compared"
    assert yaml.safe_load((tmp_path / record.STUDY).read_text())["primary_metric"] == said
    assert written(tmp_path / "usual", "1")["primary_metric"].startswith("val_accuracy_tta chooses, test_accuracy of")


def test_tuned_keys_can_be_added_later(tmp_path, capsys):
    assert written(tmp_path, "1")["tuned"] == []
    found = written(tmp_path, "1", tuned=("lr_scale",), question="Which rate?")
    assert (found["tuned"], found["question"]) == (["lr_scale"], "Which rate?")
    assert capsys.readouterr().err.endswith(
        "report mentions: question was not specified and is Which rate?, tuned was not specified and is lr_scale\n"
    )
    assert written(tmp_path, "12")["tuned"] == ["lr_scale"]
    assert "adding 1 run to the 1 of" in capsys.readouterr().err


def test_a_changed_question_is_recorded_with_its_date_and_the_earlier_one(tmp_path):
    written(tmp_path, "1", compared=("optim",))
    added = written(tmp_path, "1", compared=("model",))["added"]
    assert [(one["runs"], one["changed"]) for one in added] == [([], {"compared": [["optim"], ["model"]]})]
    assert {"date", "command"} <= added[0].keys()
    assert written(tmp_path, "1", compared=("model",))["added"] == added, "nothing changed"


def test_a_plan_written_by_hand_is_extended(tmp_path):
    (tmp_path / record.STUDY).write_text("tuned: [lr_scale]\n")
    found = written(tmp_path, "12")
    assert (found["tuned"], found["added"][0]["runs"]) == (["lr_scale"], ["1", "2"])


def test_a_run_that_is_the_same_as_another_is_noted_once(tmp_path):
    plan.note_twin(tmp_path, "a", "b")
    assert not (tmp_path / record.STUDY).exists(), "nothing was planned"
    written(tmp_path, "1")
    for _ in range(2):
        plan.note_twin(tmp_path, "a", "b")
    assert yaml.safe_load((tmp_path / record.STUDY).read_text())["twins"] == {"a": "b"}


def test_a_baseline_is_recorded_when_first_named_with_the_number_of_results_by_then(tmp_path):
    written(tmp_path, "12")
    assert plan.note_baseline(tmp_path, "sgd").num_completed == 0
    for seed in (1, 2):
        leave_run(tmp_path, f"{seed}", {"optim": "sgd", "seed": seed}, right(0.5, seed=seed))
    leave_run(tmp_path, "failed", {"optim": "sgd", "seed": 3}, right(0.5), status="failed")
    arm = ConfirmedArm("sgd", ("optim=sgd",), seeds=("2",), runs=("2",))
    record.write_study(tmp_path, replace(record.read_study(tmp_path), confirmed=(Confirmation(arms=(arm,)),)))
    late = plan.note_baseline(tmp_path, "optim.lr=0.10")
    assert (late.num_completed, late.num_confirming) == (2, 1)
    assert [one.label for one in record.read_study(tmp_path).baselines] == ["sgd", "optim.lr=0.1"]
    for label in ("optim.lr=0.1", "0.10", "lr=1e-1"):
        assert plan.note_baseline(tmp_path, label) == late, "the same arm, written in another way"
    assert plan.note_baseline(tmp_path, "sgd").num_completed == 0


def test_a_baseline_is_returned_but_not_recorded_where_nothing_can_be_written(tmp_path, monkeypatch):
    leave_run(tmp_path, "1", {"optim": "sgd", "seed": 1}, right(0.5))
    assert plan.note_baseline(tmp_path, "sgd").num_completed == 1
    assert not (tmp_path / record.STUDY).exists(), "a folder that no sweep made"
    written(tmp_path, "1")
    before = (tmp_path / record.STUDY).read_bytes()

    def refuse(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr(plan, "write_study", refuse)
    assert plan.note_baseline(tmp_path, "sgd").num_completed == 1
    monkeypatch.setattr(plan, "FileLock", refuse)
    assert plan.note_baseline(tmp_path, "sgd").num_completed == 1
    assert (tmp_path / record.STUDY).read_bytes() == before


def test_what_is_searched_is_tuned_too_and_stays_so(tmp_path):
    study = StudyConfig(question=None, compared=None, tuned=("optim",))
    plan.write(tmp_path, {"1": []}, study, {"lr_scale": Interval(0.1, 10, is_log=True)}, threads=1)
    found = yaml.safe_load((tmp_path / record.STUDY).read_text())
    assert (found["tuned"], found["searched"]) == (["optim", "lr_scale"], {"lr_scale": [0.1, 10, 1]})
    study = StudyConfig(question=None, compared=None, tuned=None)
    plan.write(tmp_path, {"1": []}, study, {"optim.lr": Interval(0, 1, is_log=False)}, threads=1)
    found = yaml.safe_load((tmp_path / record.STUDY).read_text())
    assert found["tuned"] == ["optim", "lr_scale", "optim.lr"]
    assert found["searched"] == {"lr_scale": [0.1, 10, 1], "optim.lr": [0, 1, 0]}


def test_a_budget_is_measured_once_for_a_study_and_anew_for_another_configuration(tmp_path):
    answers = iter([4, 9])
    (tmp_path / record.STUDY).write_text(yaml.safe_dump({"question": "which?", "planned": ["a"]}))
    digests = ["one", "one", "other", "one"]
    assert [plan.shared_epochs(tmp_path, digest, lambda: next(answers)) for digest in digests] == [4, 4, 9, 4]
    held = yaml.safe_load((tmp_path / record.STUDY).read_text())
    assert (held["question"], held["planned"], held["fitted_epochs"]) == ("which?", ["a"], {"one": 4, "other": 9})


def test_without_a_plan_each_run_measures_its_budget(tmp_path):
    answers = iter([4, 5])
    assert [plan.shared_epochs(tmp_path, "one", lambda: next(answers)) for _ in range(2)] == [4, 5]
    assert not (tmp_path / record.STUDY).exists()


STUDY = {"fixed": ["model=resnet18", "epochs=2"], "swept": ["optim.lr", "optim"], "threads": 2}
OLDER = {
    "command": "python -m intel_scenes.train -m model=resnet18 epochs=2 optim.lr=0.1,0.01 optim=sgd,adamw seed=1,2"
}


@pytest.mark.parametrize("study", [STUDY, OLDER | {"threads": 2}], ids=["fixed", "command"])
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["model=resnet18", "epochs=2"], {}),
        (["model=resnet34", "epochs=2"], {"model": ("model=resnet18", "model=resnet34")}),
        (["epochs=2"], {"model": ("model=resnet18", "")}),
        (
            ["model=resnet18", "epochs=3", "lr_scaling=sqrt"],
            {"epochs": ("epochs=2", "epochs=3"), "lr_scaling": ("", "lr_scaling=sqrt")},
        ),
        (
            ["model=resnet18", "epochs=2", "optim.weight_decay=0.5"],
            {"optim.weight_decay": ("", "optim.weight_decay=0.5")},
        ),
        (["model=resnet18", "epochs=2", "optim.no=1"], {"optim.no": ("", "optim.no=1")}),
        *(
            (["model=resnet18", "epochs=2", joins], {})
            for joins in (
                "seed=3",
                "optim=nadam",
                "lr_scale=1.0",
                "data.root=/x",
                "trainer=cpu",
                "threads=2",
                "keep_last=true",
            )
        ),
    ],
)
def test_what_a_sweep_fixes_otherwise_than_the_runs_of_its_folder_is_known(tmp_path, study, typed, expected):
    (tmp_path / record.STUDY).write_text(yaml.safe_dump(study))
    jobs = {lr: [f"optim.lr={lr}", *typed] for lr in ("0.1", "0.3")}
    assert plan.other_choices(jobs, tmp_path, (), compose) == expected
    assert plan.other_choices(jobs, tmp_path, expected, compose) == {}, "factors of the study are not fixed"


def test_what_was_added_once_may_go_on(tmp_path):
    added = [{"command": "python -m intel_scenes.train -m model=resnet34 epochs=2 optim.lr=0.1", "runs": ["a"]}]
    (tmp_path / record.STUDY).write_text(yaml.safe_dump(OLDER | {"added": added}))
    assert plan.other_choices({"a": ["model=resnet34", "epochs=2", "optim.lr=0.1"]}, tmp_path, (), compose) == {}


@pytest.mark.parametrize("study", ["tuned: [lr_scale]\n", "command: 3\n", "command: train 'a\n"])
def test_a_plan_without_fixed_overrides_refuses_nothing(tmp_path, study):
    (tmp_path / record.STUDY).write_text(study)
    assert plan.other_choices({"a": ["model=resnet34"]}, tmp_path, (), compose) == {}
