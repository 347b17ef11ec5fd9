import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from intel_scenes import record
from intel_scenes.errors import UserError
from intel_scenes.inference.find_run import find_run


@pytest.fixture
def leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write the record of a run into a folder below the current one."""
    monkeypatch.chdir(tmp_path)

    def made(folder: str, ended: str = "2026-01-01T00:00:00+00:00", status: str = "completed") -> Path:
        Path(folder).mkdir(parents=True)
        summary = {"status": status, "ended": ended, "val_accuracy": 0.5, "test_accuracy": 0.5}
        Path(folder, record.SUMMARY).write_text(json.dumps(summary))
        return Path(folder)

    return made


def test_a_folder_that_is_there_is_taken_as_it_is(leave: Callable[..., Path], tmp_path: Path) -> None:
    leave("outputs/model=resnet18-0a")
    (tmp_path / "model").mkdir()
    assert find_run("model") == Path("model")
    assert find_run(str(tmp_path / "model")) == tmp_path / "model"


def test_a_unique_beginning_of_a_name_is_enough(leave: Callable[..., Path]) -> None:
    small = leave("outputs/model=resnet18,seed=1-0a")
    large = leave("multirun/models/model=resnet34,seed=1-0b")
    other = leave("multirun/again/model=resnet34,seed=1-0b")
    leave("multirun/.replaced/model=resnet18,seed=2-0c")
    assert find_run("model=resnet1") == small
    assert find_run("models/model=r") == large
    assert find_run("again/") == other
    with pytest.raises(UserError, match=r"^run=model=resnet34 matches 2 runs \(multirun/again/model=resnet34"):
        find_run("model=resnet34")


def test_the_hash_that_a_name_ends_in_is_enough(leave: Callable[..., Path]) -> None:
    first = leave("multirun/models/model=resnet34,seed=1-0123abcd")
    leave("multirun/models/model=resnet34,seed=2-0124abcd")
    assert find_run("0123") == first
    with pytest.raises(UserError, match=r"^there is no folder 012, and no run"):
        find_run("012")


def test_a_whole_name_is_found_where_a_longer_one_begins_with_it(leave: Callable[..., Path]) -> None:
    short = leave("outputs/a")
    leave("outputs/ab")
    assert find_run("a") == short


def test_latest_is_the_finished_run_that_ended_last(leave: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"^run=latest: there is no finished run below outputs/ or multirun/"):
        find_run("latest")
    leave("outputs/b", "2026-01-01T00:00:00+00:00")
    newest = leave("multirun/study/a", "2026-01-02T00:00:00+00:00")
    leave("outputs/c", "2026-01-03T00:00:00+00:00", status="failed")
    assert find_run("latest") == newest


def test_of_several_matches_up_to_three_are_named(leave: Callable[..., Path]) -> None:
    for number in range(4):
        leave(f"outputs/run{number}")
    with pytest.raises(UserError) as caught:
        find_run("run")
    listed = "outputs/run0, outputs/run1, outputs/run2 and 1 more"
    assert str(caught.value) == f"run=run matches 4 runs ({listed}): type more of the name, or the hash at its end"


def test_a_misspelt_name_is_refused_with_the_nearest_one(leave: Callable[..., Path]) -> None:
    leave("outputs/model=resnet18,seed=1-0a")
    with pytest.raises(UserError) as caught:
        find_run("model=resent18")
    assert str(caught.value) == (
        "there is no folder model=resent18, and no run below outputs/ or multirun/ of the current folder has a name "
        "that begins like this (did you mean model=resnet18?): give the folder of a finished run"
    )


def test_runs_and_images_are_found_without_torch() -> None:
    modules = "intel_scenes.inference.find_run, intel_scenes.inference.image_files, intel_scenes.predict"
    command = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
