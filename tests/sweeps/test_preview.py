import json
from dataclasses import replace

import hydra
import pytest

from intel_scenes import record
from intel_scenes.composition import configured
from intel_scenes.config import RunConfig
from intel_scenes.keys import conf_folder
from intel_scenes.record import Summary
from intel_scenes.sweeps import preview
from tests.studies.simulated_records import leave_run


@pytest.fixture(scope="module")
def config():
    overrides = ["epochs=4", "model=resnet18", "data=synthetic", "data.image_size=64", "data.num_test=6"]
    with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return configured(hydra.compose("train", overrides), RunConfig)


@pytest.fixture
def shown(config, capsys):
    """What the plan of one more run says."""

    def say(study):
        preview.show({"new": ["seed=2"]}, set(), study, lambda _: config, tuned=(), has_baseline=False)
        return capsys.readouterr().out

    return say


def test_a_run_is_estimated_from_runs_of_the_same_network_and_size(tmp_path, shown):
    leave_run(tmp_path, "there", {"seed": 1}, [True] * 6, epochs=2, fit_seconds=60.0)
    assert "run      new  about 2.0 minutes" in shown(tmp_path)  # 30 seconds an epoch, four of them


def test_runs_without_a_recorded_time_are_not_used_for_estimates(tmp_path, shown):
    leave_run(tmp_path, "there", {"seed": 1}, [True] * 6, fit_seconds=None)
    assert "run      new  new\n" in shown(tmp_path)
    assert Summary.peek(tmp_path / "new") is None


@pytest.mark.parametrize(
    ("left", "action"),
    [
        *(
            (json.dumps({"status": status}), action)
            for status, action in (("interrupted", "resume"), ("failed", "retry"))
        ),
        *((json.dumps({"status": "completed"}), "check"), ("{", "check"), (None, "run")),
    ],
)
def test_what_a_run_would_do_follows_from_its_record(tmp_path, shown, left, action):
    if left is not None:
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / record.SUMMARY).write_text(left)
    said = shown(tmp_path)
    assert f"  {action:<9}new  new\n1 to {action}\n" in said
    assert ("may be refused" in said) == (action == "check")


@pytest.mark.parametrize("seconds", [60.0, None])
def test_confirming_runs_are_counted_and_estimated_before_they_are_chosen(tmp_path, config, capsys, seconds):
    leave_run(tmp_path, "there", {"seed": 1}, [True] * 6, epochs=2, fit_seconds=seconds)
    jobs = {f"{optim}{lr}": [f"optim={optim}", f"lr_scale={lr}"] for optim in ("sgd", "adam") for lr in (1, 3)}
    confirming = preview.Confirming(num_arms=2, num_seeds=5, num_unknown=10, examples=[jobs["sgd1"], jobs["adam1"]])
    preview.show(
        jobs, {"sgd1"}, tmp_path, lambda _: config, tuned=["lr_scale"], has_baseline=False, confirming=confirming
    )
    said = capsys.readouterr().out
    assert "then 10 runs to confirm what validation chooses: 2 arms with 5 fresh seeds each" in said
    if seconds:  # 30 seconds an epoch, four of them, for three runs and ten
        assert "about 26 minutes and 0 MB for 13 runs" in said
    else:
        assert "time and disk space are unknown for 13 runs" in said
    assert "2 arms with 5 seeds: the smallest detectable difference" in said


def test_a_single_confirming_seed_and_tuning_seeds_that_are_tested_are_pointed_out(tmp_path, config, capsys):
    jobs = {f"{optim}{lr}": [f"optim={optim}", f"lr_scale={lr}"] for optim in ("sgd", "adam") for lr in (1, 3)}
    one = preview.Confirming(num_arms=2, num_seeds=1, num_unknown=2, examples=[jobs["sgd1"]])
    for tuned, confirming, expected in (
        (["lr_scale"], one, "no difference between arms can be tested with one confirming seed of each"),
        (
            ["lr_scale"],
            None,
            "the seeds that choose lr_scale are also tested: sweep.confirm=5 tests on five fresh seeds instead",
        ),
        ([], None, ""),
    ):
        options = {"tuned": tuned, "has_baseline": False, "confirming": confirming}
        preview.show(jobs, set(), tmp_path, lambda _: config, **options)
        said = capsys.readouterr().out
        assert expected in said
        assert ("sweep.confirm" in said) == bool(tuned)


def test_the_detectable_difference_is_computed_from_the_number_of_test_images(tmp_path, config, capsys):
    for number in range(7):
        for name in ("sea", "street"):
            path = tmp_path / f"images/seg_test/{name}/{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (tmp_path / "images/seg_test/sea/notes.txt").touch()

    def said(source, root, study="study"):
        run = replace(config, data=replace(config.data, source=source, root=root and str(root), num_test=50))
        jobs = {f"{optim}{seed}": [f"optim={optim}", f"seed={seed}"] for optim in ("sgd", "adam") for seed in (1, 2)}
        preview.show(jobs, set(), tmp_path / study, lambda _: run, tuned=(), has_baseline=False)
        return capsys.readouterr().out

    images, nothing = tmp_path / "images", tmp_path / "nothing"
    for source, root, expected in (
        *(("folder", images, 14), ("intel", images, 14), ("synthetic", None, 50), ("intel", nothing, "3,000")),
    ):
        assert f"assuming {expected} test images" in said(source, root)
    assert "the smallest detectable difference is unknown, because data.root has no test images" in said(
        "folder", nothing
    )
    leave_run(tmp_path / "earlier", "there", {"seed": 1}, [True] * 6)
    assert "assuming 6 test images" in said("folder", images, "earlier")


@pytest.mark.parametrize(
    ("fraction", "equal_steps", "minutes"), [(1, False, 2.0), (0.25, False, 0.5), (0.25, True, 2.0), (0.5, False, 1.2)]
)
def test_a_share_of_the_images_takes_its_share_of_the_time(tmp_path, config, capsys, fraction, equal_steps, minutes):
    leave_run(tmp_path, "whole", {"seed": 1}, [True] * 6, epochs=2, fit_seconds=60.0)
    if fraction == 0.5:  # a run of the same share knows it better: 18 seconds an epoch
        half = {"data.train_fraction": 0.5, "seed": 1}
        leave_run(tmp_path, "half", half, [True] * 6, epochs=2, fit_seconds=36.0, train_fraction=0.5)
    run = replace(config, data=replace(config.data, train_fraction=fraction), equal_steps=equal_steps)
    preview.show({"new": ["seed=2"]}, set(), tmp_path, lambda _: run, tuned=(), has_baseline=False)
    assert f"run      new  about {minutes} minutes" in capsys.readouterr().out
