import yaml
from omegaconf import OmegaConf

from intel_scenes import plan, record
from tests.studies.made import leave_run

RUN = {"epochs": 4, "budget_minutes": None, "model": {"name": "resnet18"}}
RUN |= {"data": {"image_size": 64, "source": "synthetic", "num_test": 6}}
SWEEP = OmegaConf.create(RUN | {"study": {"tuned": []}, "compare": {"baseline": None}})


def shown(study, capsys):
    """What the plan of one more run says."""
    plan.show({"new": ["seed=2"]}, set(), study, SWEEP, [], lambda _: OmegaConf.create(RUN))
    return capsys.readouterr().out


def test_a_run_is_estimated_by_those_of_its_network_and_size(tmp_path, capsys):
    leave_run(tmp_path, "there", {"seed": 1}, [True] * 6, epochs=2, fit_seconds=60.0)
    assert "run      new  about 2.0 minutes" in shown(tmp_path, capsys)  # 30 seconds an epoch, four of them


def test_a_run_that_does_not_know_its_time_estimates_nothing(tmp_path, capsys):
    leave_run(tmp_path, "there", {"seed": 1}, [True] * 6, fit_seconds=None)
    assert "no run alike yet" in shown(tmp_path, capsys)
    assert record.peek(tmp_path / "new") is None


def written(folder, command, **study):
    config = OmegaConf.create(
        {"study": {"question": None, "compared": [], "tuned": []} | study, "threads": 1, "hydra": {"launcher": {}}}
    )
    plan.write_study(folder, {name: [f"seed={name}"] for name in command}, config, {})
    return yaml.safe_load((folder / record.STUDY).read_text())


def test_what_is_tuned_can_be_said_later(tmp_path, capsys):
    assert written(tmp_path, "1")["tuned"] == []
    found = written(tmp_path, "1", tuned=["lr_scale"], question="Which rate?")
    assert (found["tuned"], found["question"]) == (["lr_scale"], "Which rate?")
    assert capsys.readouterr().err.endswith(
        "report says so: question was not said and is Which rate?, tuned was not said and is lr_scale\n"
    )
    assert written(tmp_path, "12")["tuned"] == ["lr_scale"]
    assert "1 runs are added" in capsys.readouterr().err


def test_what_is_asked_later_is_told_with_its_date_and_what_was_asked_before(tmp_path):
    written(tmp_path, "1", compared=["optim"])
    added = written(tmp_path, "1", compared=["model"])["added"]
    assert [(one["runs"], one["changed"]) for one in added] == [([], {"compared": [["optim"], ["model"]]})]
    assert {"date", "command"} <= added[0].keys()
    assert written(tmp_path, "1", compared=["model"])["added"] == added, "nothing changed"


def test_a_plan_that_was_written_by_hand_is_gone_on_with(tmp_path):
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
