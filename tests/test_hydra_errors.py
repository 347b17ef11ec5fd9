"""Hydra's messages and internals, as `hydra_errors` relies on them: for each a test that breaks when Hydra changes."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from intel_scenes.errors import UserError
from intel_scenes.hydra_errors import CannotCompose, sentence
from intel_scenes.keys import conf_folder


def said(*overrides: str, flags: tuple[str, ...] = ()) -> str:
    """Our sentence for what Hydra refuses."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3"), pytest.raises(HydraException) as refused:
        compose("train", list(overrides))
    return sentence(refused.value, "train", [*flags, *overrides])


def test_an_interval_needs_a_multirun() -> None:
    assert said("optim.lr=interval(0,1)") == "optim.lr=interval(0,1) sets an interval: add -m to search it"


def test_several_values_need_a_multirun() -> None:
    assert said("seed=1,2") == "seed=1,2 has several values: add -m to sweep over them"


@pytest.mark.skipif(find_spec("hydra_plugins.hydra_ray_launcher") is not None, reason="its launcher is installed")
def test_a_launcher_whose_plugin_is_missing_names_the_extra() -> None:
    for name in ("local_ray", "ray_cluster"):
        expected = f'hydra/launcher={name} is not installed: run pip install "intel-scenes[ray]"'
        assert said(f"hydra/launcher={name}") == expected


def test_a_group_that_no_command_has_is_named() -> None:
    assert said("optm=adam") == "there is no key optm (did you mean optim?); --help lists all keys"


def test_a_key_that_no_file_has_is_named() -> None:
    expected = "there is no key optim.learning_rate (did you mean optim.lr?); --help lists all keys"
    assert said("optim.learning_rate=0.1") == expected


def test_a_value_that_a_key_of_hydra_cannot_have_is_named() -> None:
    expected = "Error merging override hydra.job.num=a: Value 'a' of type 'str' could not be converted to Integer"
    assert said("hydra.job.num=a") == expected


def test_a_file_that_a_group_lacks_is_named() -> None:
    assert said("optim=adamv").startswith("optim=adamv: conf/optim has no such file (did you mean ")


def test_what_cannot_be_parsed_is_named() -> None:
    assert said("optim.lr=[1").startswith("'optim.lr=[1' cannot be parsed: write KEY=VALUE")


def test_a_key_is_looked_up_in_files_of_ones_own(tmp_path: Path) -> None:
    """The search path, the flags and the loader of Hydra that compose the configuration once more."""
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim/mine.yaml").write_text("{_target_: torch.optim.SGD, _partial_: true, lr: 0.1, momentum: 0.5}")
    with initialize_config_dir(str(conf_folder()), version_base="1.3"), pytest.raises(HydraException) as refused:
        compose("train", ["optim=adam", "optim.momentun=0.5"])
    job = ["optim=mine", "optim.momentun=0.5"]
    arguments = ["--config-dir", str(tmp_path), "-m", "optim=adam,mine", "optim.momentun=0.5"]
    error = CannotCompose(job)
    error.__cause__ = refused.value
    assert sentence(error, "train", arguments).startswith("there is no key optim.momentun (did you mean optim.momentum")
    assert (
        "did you mean" not in sentence(refused.value, "train", ["optim=adam", "optim.momentun=0.5"]).partition(";")[0]
    )


def test_our_own_sentences_stay_whole_and_those_of_others_are_cut_to_a_line() -> None:
    assert sentence(UserError("one\ntwo"), "train", []) == "one\ntwo"
    assert sentence(HydraException("one\ntwo"), "train", []) == "one"
    assert sentence(FileNotFoundError(2, "No such file", "a/b"), "train", []) == "a/b: No such file"
