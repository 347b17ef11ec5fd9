import resource
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intel_scenes import record
from intel_scenes.errors import UserError
from intel_scenes.record import Addition, Baseline, Status, StudyPlan, Summary, read_study, write_study
from intel_scenes.studies.merge import merge
from tests.studies.simulated_records import leave_run, leave_study

PLAN = StudyPlan(compared=("optim",), threads=2, planned=("optim=sgd,seed=1", "optim=adam,seed=1"), plan_file="abc")


def shard(folder: Path, *names: str, plan: StudyPlan = PLAN, share: float = 0.9, **summary: object) -> Path:
    """Leave a shard with the named runs, of which each test image up to a share is classified correctly."""
    for name in names:
        typed = {
            key: int(value) if key == "seed" else value for key, value in (text.split("=") for text in name.split(","))
        }
        leave_run(folder, name, typed, np.arange(100) < 100 * share, **summary)
    folder.mkdir(exist_ok=True)
    write_study(folder, plan)
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()}


def test_shards_become_one_study_and_stay_as_they_are(tmp_path):
    folders = [shard(tmp_path / "a", "optim=sgd,seed=1"), shard(tmp_path / "b", "optim=adam,seed=1")]
    before = sorted(tmp_path.rglob("*"))
    merge(folders, tmp_path / "all")
    assert names(tmp_path / "all") == {"optim=sgd,seed=1", "optim=adam,seed=1"}
    assert read_study(tmp_path / "all") == PLAN
    assert [path for path in sorted(tmp_path.rglob("*")) if not path.is_relative_to(tmp_path / "all")] == before
    one, other = (place / "optim=sgd,seed=1/predictions.csv" for place in (folders[0], tmp_path / "all"))
    assert one.read_bytes() == other.read_bytes()
    assert one.samefile(other), "no second copy on the disk"


def test_equal_records_of_a_run_count_once_whatever_they_cost_and_where(tmp_path):
    on_one = shard(tmp_path / "a", "optim=sgd,seed=1", fit_seconds=1.0, device="cpu x86_64", started="2026-01-01")
    on_other = shard(tmp_path / "b", "optim=sgd,seed=1", fit_seconds=9.0, device="cpu arm64", started="2026-01-02")
    merge([on_one, on_other], tmp_path / "all")
    merge([on_one, on_other], tmp_path / "all")
    assert names(tmp_path / "all") == {"optim=sgd,seed=1"}
    assert Summary.read(tmp_path / "all/optim=sgd,seed=1").fit_seconds == 1.0


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        ({"share": 0.8}, r"train_accuracy, val_accuracy, test_accuracy, history.csv, predictions.csv"),
        ({"data_fingerprint": "others", "config_digest": "others"}, r"config_digest, data_fingerprint"),
    ],
)
def test_unequal_records_of_a_run_are_named_and_nothing_is_written(tmp_path, change, differing):
    folders = [shard(tmp_path / "a", "optim=sgd,seed=1"), shard(tmp_path / "b", "optim=sgd,seed=1", **change)]
    with pytest.raises(UserError, match=rf"a/optim=sgd,seed=1 and \S+b/optim=sgd,seed=1 \({differing}\)"):
        merge(folders, tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_another_history_makes_another_record_but_another_speed_does_not(tmp_path):
    folders = [shard(tmp_path / place, "optim=sgd,seed=1") for place in "ab"]
    path = folders[1] / "optim=sgd,seed=1" / record.HISTORY
    lines = path.read_text().splitlines()
    columns = lines[0].split(",")
    cells = lines[1].split(",")
    cells[columns.index("images_per_second")] = "12345.0"
    path.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    merge(folders, tmp_path / "all")
    cells[columns.index("val_loss")] = "12345.0"
    path.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    with pytest.raises(UserError, match=r"\(history.csv\)"):
        merge(folders, tmp_path / "again")


def test_the_same_run_under_two_names_is_noted_as_a_twin(tmp_path):
    plan = replace(PLAN, planned=("optim=sgd,seed=1", "seed=1"))
    one = shard(tmp_path / "a", "optim=sgd,seed=1", plan=plan)
    first = Summary.read(one / "optim=sgd,seed=1")
    of_run = {"config_digest": first.config_digest, "configuration_digest": first.configuration_digest}
    other = shard(tmp_path / "b", "seed=1", plan=plan, **of_run)
    merge([one, other], tmp_path / "all")
    assert names(tmp_path / "all") == {"optim=sgd,seed=1"}
    assert read_study(tmp_path / "all").twins == {"seed=1": "optim=sgd,seed=1"}


def test_a_completed_record_replaces_one_that_is_not(tmp_path):
    failed, completed = (
        shard(tmp_path / place, "optim=sgd,seed=1", status=status)
        for place, status in (("a", "failed"), ("b", "completed"))
    )
    merge([failed], tmp_path / "all")
    assert Summary.read(tmp_path / "all/optim=sgd,seed=1").status is Status.FAILED
    for folders in ([failed, completed], [completed, failed]):
        merge(folders, tmp_path / "all")
        assert Summary.read(tmp_path / "all/optim=sgd,seed=1").status is Status.COMPLETED


def test_a_run_that_is_not_complete_is_copied_because_it_may_go_on(tmp_path):
    folder = shard(tmp_path / "a", "optim=sgd,seed=1", status="interrupted")
    run = folder / "optim=sgd,seed=1"
    (run / record.LOCK).touch()
    merge([folder], tmp_path / "all")
    copied = tmp_path / "all/optim=sgd,seed=1"
    assert not (copied / record.HISTORY).samefile(run / record.HISTORY)
    assert not (copied / record.LOCK).exists()


def test_a_run_that_cannot_be_copied_is_named_and_leaves_no_part(tmp_path):
    folder = shard(tmp_path / "a", "optim=sgd,seed=1", status="interrupted")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))  # as a full disk
    try:
        with pytest.raises(UserError, match=r"a/optim=sgd,seed=1 cannot be copied into \S+/all \(\[Errno 27\] "):
            merge([folder], tmp_path / "all")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "all").iterdir())


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        ({"threads": 1}, "threads"),
        ({"planned": ("optim=sgd,seed=1",), "plan_file": None}, "planned, plan_file"),
        ({"fitted_epochs": {"digest": 4}}, "fitted_epochs"),
    ],
)
def test_folders_of_different_sweeps_are_refused(tmp_path, change, keys):
    first = shard(tmp_path / "a", plan=replace(PLAN, fitted_epochs={"digest": 3}))
    other = shard(tmp_path / "b", plan=replace(PLAN, **change))
    with pytest.raises(UserError, match=rf"are not shards of one sweep, because their study.yaml differ in {keys}:"):
        merge([first, other], tmp_path / "all")


def test_what_one_shard_noted_is_in_the_merged_plan(tmp_path):
    more = Addition(date="2026-01-01", command="c", runs=("optim=nadam,seed=1",))
    one = shard(tmp_path / "a", plan=replace(PLAN, added=(more,), baselines=(Baseline("sgd", num_completed=2),)))
    other = shard(tmp_path / "b", plan=replace(PLAN, added=(replace(more, date="2026-01-02"),), twins={"x": "y"}))
    merge([one, other], tmp_path / "all")
    assert read_study(tmp_path / "all") == replace(
        PLAN, added=(more,), baselines=(Baseline("sgd", num_completed=2),), twins={"x": "y"}
    )


def test_folders_without_a_plan_are_merged_by_their_records(tmp_path):
    leave_study(tmp_path / "a", {"sgd": 0}, 2)
    leave_study(tmp_path / "b", {"adam": 2}, 2)
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "a")
    assert len(names(tmp_path / "a")) == 4
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(
        UserError, match=r"there is no folder \S+b: set folder=\[A,B,...\] to the folders of the shards"
    ):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "a")
