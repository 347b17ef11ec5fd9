"""Training from Python."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import intel_scenes
from intel_scenes import UserError, start_run
from intel_scenes.keys import conf_folder
from intel_scenes.start import _text
from intel_scenes.sweeps.overrides import parsed
from tests.small import DRAWN, SMALL

OTHERS = tuple(text for text in SMALL if not text.startswith(("model=", "epochs=", "threads=")))
TINY = [*DRAWN, *OTHERS, "model=resnet9_x0_5", "epochs=1"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_is_trained_found_again_and_its_process_left_as_it_was(
    place: Path, cache: Path, capsys: pytest.CaptureFixture[str], on_threads: Callable[[int], None]
) -> None:
    on_threads(2)
    typed = [*TINY, f"data.cache_dir={cache}", "threads=1"]
    torch.manual_seed(7)
    numbers, threads = torch.get_rng_state(), 2
    levels = [logging.getLogger(name).level for name in ("intel_scenes", "lightning.pytorch")]
    handlers, filters = list(logging.getLogger("intel_scenes").handlers), list(warnings.filters)
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        run = start_run(typed)
        assert compose("compare", ["folder=a"]).folder == "a", "Hydra of the caller goes on"
    assert not GlobalHydra.instance().is_initialized()
    assert torch.equal(torch.get_rng_state(), numbers)
    assert torch.get_num_threads() == threads
    assert [logging.getLogger(name).level for name in ("intel_scenes", "lightning.pytorch")] == levels
    assert (list(logging.getLogger("intel_scenes").handlers), list(warnings.filters)) == (handlers, filters)
    assert " 1 of 1 " in capsys.readouterr().err
    assert run.folder.parent == Path("outputs")
    assert run.summary.model == "resnet9_x0_5"
    assert run.summary.threads == 1

    by_key = {key: yaml.safe_load(value) for key, _, value in (text.partition("=") for text in reversed(typed))}
    again = start_run(by_key, quiet=True)
    assert again.folder == run.folder, "whatever the order"
    assert again.summary == run.summary
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["epohcs=2"], "there is no key epohcs (did you mean epochs?); --help lists all keys"),
        ({"model": "resnet35"}, "model=resnet35: conf/model has no such file (did you mean resnet50 or resnet34 or"),
        (["seed=1,2"], "seed=1,2 has several values: add -m to sweep over them"),
        (["study=models"], "study=NAME starts a sweep, but its file lacks hydra.mode: MULTIRUN"),
        (["epochs=2", "a b"], "'a b' cannot be parsed: write KEY=VALUE"),
        ("epochs=2", "overrides='epochs=2' is a string: give a list, ['epochs=2'], or a mapping"),
        (["dry_run=true"], "dry_run=true trains nothing to return: use the command intel-scenes train dry_run=true"),
        (["trainer=cpu", "trainer.devices=2"], "start_run trains on one device: set trainer.devices=1, or use"),
        (["data=folder", "data.root=null"], "data=folder needs data.root=FOLDER"),
        (["hydra.run.dir=a"], "hydra.run.dir=a and folder=b both name the folder of the run: leave one out"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_leaves_nothing(place: Path, overrides: list[str], said: str) -> None:
    folder = "b" if overrides == ["hydra.run.dir=a"] else None
    with pytest.raises(UserError) as error:
        start_run(overrides, folder=folder, quiet=True)
    assert str(error.value).startswith(said)
    assert not GlobalHydra.instance().is_initialized()
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["a", "it's", "a\\", "a\\'b", "x=1,2", "/tmp/a b", "1e3", "null", "True", "", "é", "[a"]
)
def test_a_text_reaches_hydra_as_it_is(text: str) -> None:
    assert parsed(f"key={_text(text)}").value() == text or str(parsed(f"key={_text(text)}").value()) == text
    assert not isinstance(parsed(f"key={_text(text)}").value(), int | float | bool | None)


@pytest.mark.parametrize("value", [None, True, False, 3, 0.5, 1e-5, [1, 2], ["a b", "c"]])
def test_a_value_reaches_hydra_with_its_type(value: object) -> None:
    found = parsed(f"key={_text(value)}").value()
    assert (found if not isinstance(found, list) else [getattr(item, "text", item) for item in found]) == value


def test_the_public_names_are_listed_and_no_other_is_there() -> None:
    assert set(intel_scenes.__all__) <= set(dir(intel_scenes))
    for name in intel_scenes.__all__:
        assert getattr(intel_scenes, name).__doc__
    with pytest.raises(AttributeError, match="module 'intel_scenes' has no attribute 'predictor'"):
        intel_scenes.predictor  # noqa: B018
