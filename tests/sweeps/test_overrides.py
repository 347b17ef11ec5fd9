import os
from pathlib import Path

import pytest

from intel_scenes.sweeps.overrides import composition_digest, is_override, of_command, shared_and_swept, values_by_key


@pytest.mark.parametrize("argument", ["seed=1", "+a.b=1", "++a=", "~optim", "hydra/launcher=x", "db@a.b=x", "a='b c'"])
def test_what_begins_like_a_key_is_an_override(argument: str) -> None:
    assert is_override(argument)


@pytest.mark.parametrize("argument", ["-m", "--multirun", "--config-dir=more", "more", "--cfg", ""])
def test_other_arguments_are_flags(argument: str) -> None:
    assert not is_override(argument)


def test_the_last_setting_of_a_key_is_its_value() -> None:
    assert values_by_key(["seed=1", "+optim.lr=1e-1", "seed='2'"]) == {"seed": "2", "optim.lr": "0.1"}


def test_jobs_share_what_none_sets_otherwise_and_differ_in_what_some_lack() -> None:
    jobs = [["model=resnet18", "optim=sgd", "seed=1"], ["model=resnet18", "optim=adam", "lr_scale=3", "seed=2"]]
    assert shared_and_swept(jobs) == ({"model": "model=resnet18"}, {"optim", "lr_scale"})


def test_the_overrides_of_a_command_are_read_back() -> None:
    command = "python -m intel_scenes.train -m optim=sgd,adam 'study.question=Which one?'"
    assert of_command(command) == ["optim=sgd,adam", "study.question=Which one?"]
    assert of_command("train 'a") is None
    assert shared_and_swept([["optim=sgd,adam", "epochs=2"]]) == ({"epochs": "epochs=2"}, {"optim"})


def test_the_digest_of_a_composition_covers_the_content_of_files_that_are_named(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_text("one")
    job = [f"model.weights={weights}", "seed=1"]
    first = composition_digest(job)
    assert composition_digest(job[::-1]) == first
    weights.write_text("two")
    os.utime(weights, (1, 1))
    assert composition_digest(job) != first


@pytest.mark.parametrize("value", ["'Is it true? " + "So it is. " * 30 + "'", "'~nobody-of-this-name/weights.pth'"])
def test_a_value_that_is_no_path_is_digested(value: str) -> None:
    assert composition_digest([f"study.question={value}"]) != composition_digest([])
