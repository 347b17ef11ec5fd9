import hydra
import pytest
import yaml
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from intel_scenes import record
from intel_scenes.sweeps import plan
from intel_scenes.sweeps.names import conf_folder
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


def test_what_the_seeds_would_show_is_reckoned_with_the_test_images_that_are_there(tmp_path, capsys):
    for number in range(7):
        for name in ("sea", "street"):
            path = tmp_path / f"images/seg_test/{name}/{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (tmp_path / "images/seg_test/sea/notes.txt").touch()

    def said(source, root, study="study"):
        data = {"image_size": 64, "source": source, "root": str(root), "num_test": 50}
        run = OmegaConf.create(RUN | {"data": data})
        jobs = {f"{optim}{seed}": [f"optim={optim}", f"seed={seed}"] for optim in ("sgd", "adam") for seed in (1, 2)}
        plan.show(jobs, set(), tmp_path / study, SWEEP, [], lambda _: run)
        return capsys.readouterr().out

    images, nothing = tmp_path / "images", tmp_path / "nothing"
    for source, root, expected in (
        *(("folder", images, 14), ("intel", images, 14), ("synthetic", None, 50), ("intel", nothing, "3,000")),
    ):
        assert f"assuming {expected} test images" in said(source, root)
    assert "the smallest detectable difference is unknown: data.root has no test images" in said("folder", nothing)
    leave_run(tmp_path / "earlier", "there", {"seed": 1}, [True] * 6)
    assert "assuming 6 test images" in said("folder", images, "earlier")


def compose(overrides):
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return hydra.compose("train", list(overrides))


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
    config = OmegaConf.create({"study": {"compared": [], "tuned": []}})
    jobs = {lr: [f"optim.lr={lr}", *typed] for lr in ("0.1", "0.3")}
    assert plan.other_choices(jobs, tmp_path, config, compose) == expected
    for compared in (
        {"study": {"compared": list(expected), "tuned": []}},
        {"hydra": {"sweeper": {"params": expected}}},
    ):
        factors = OmegaConf.merge(config, compared)
        assert plan.other_choices(jobs, tmp_path, factors, compose) == {}, "factors of the study are not fixed"


def test_what_was_added_once_may_go_on(tmp_path):
    added = [{"command": "python -m intel_scenes.train -m model=resnet34 epochs=2 optim.lr=0.1", "runs": ["a"]}]
    (tmp_path / record.STUDY).write_text(yaml.safe_dump(OLDER | {"added": added}))
    config = OmegaConf.create({"study": {"compared": [], "tuned": []}})
    assert plan.other_choices({"a": ["model=resnet34", "epochs=2", "optim.lr=0.1"]}, tmp_path, config, compose) == {}


@pytest.mark.parametrize("study", ["tuned: [lr_scale]\n", "command: 3\n", "command: train 'a\n"])
def test_of_a_plan_that_does_not_tell_what_it_fixes_nothing_is_said(tmp_path, study):
    (tmp_path / record.STUDY).write_text(study)
    config = OmegaConf.create({"study": {"compared": [], "tuned": []}})
    assert plan.other_choices({"a": ["model=resnet34"]}, tmp_path, config, compose) == {}
