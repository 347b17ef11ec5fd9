"""Processes with a rank set by a launcher that have runs of their own."""

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import LeaseCompromise

from intel_scenes import record
from intel_scenes.errors import Busy
from intel_scenes.training.claim import DEATHS, LEASE_SECONDS, Place, claimed
from tests.process import forked, python
from tests.small import DRAWN, SMALL

Finished = subprocess.CompletedProcess[str]
ONE_EPOCH = (*DRAWN, *SMALL, "model=resnet9_x0_5", "epochs=1")
# What `srun --ntasks=2` sets, here for tasks on one machine.
TASKS = {
    **{"SLURM_JOB_ID": "77", "SLURM_NTASKS": "2", "SLURM_NODEID": "0", "SLURM_JOB_NUM_NODES": "1"},
    **{"SLURM_JOB_NODELIST": "localhost", "SLURM_NODELIST": "localhost", "SLURM_JOB_NAME": "scenes"},
}


@pytest.fixture
def environment(cache: Path) -> dict[str, str]:
    return os.environ | {"INTEL_SCENES_CACHE": str(cache)}


def summaries(place: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in place.rglob(record.SUMMARY)]


def test_a_shard_removes_a_claim_that_is_not_renewed_and_no_other(tmp_path: Path) -> None:
    lock = tmp_path / record.LOCK
    lock.write_text("a claim of another machine, on a file system where it cannot be taken over")
    with pytest.raises(Busy), claimed(Place(tmp_path, is_of_shard=True), is_first=True):
        pass
    expired = time.time() - LEASE_SECONDS - 5
    os.utime(lock, (expired, expired))
    with claimed(Place(tmp_path, is_of_shard=True), is_first=True) as claim:
        claim.check()
        assert f"pid={os.getpid()}\n" in lock.read_text()
    assert not lock.exists()


def test_a_process_that_lost_its_claim_leaves_the_count_of_the_one_that_took_it(tmp_path: Path) -> None:
    with claimed(Place(tmp_path), is_first=True) as claim:
        assert claim.lease is not None
        lost = LeaseCompromise(lock_file=claim.lease.lock_file, token="", reason="owner-changed")
        claim.lease._claim.compromise = lost  # as its heartbeat reports
        with pytest.raises(Busy, match="was taken over by another process"):
            claim.check()
    assert (tmp_path / DEATHS).exists()


@pytest.mark.parametrize("devices", ["1", "auto"])
@pytest.mark.parametrize("numbers", [{"RANK": "1"}, TASKS | {"SLURM_PROCID": "1", "SLURM_LOCALID": "1"}])
def test_a_single_process_writes_its_record_whatever_its_rank(
    numbers: dict[str, str], devices: str, environment: dict[str, str], tmp_path: Path
) -> None:
    alone = (*ONE_EPOCH, "trainer.accelerator=cpu", f"trainer.devices={devices}")
    done = forked("intel_scenes.train", *alone, cwd=tmp_path, env=environment | numbers)
    assert done.returncode == 0, done.stderr
    assert "written to" in done.stdout
    (summary,) = summaries(tmp_path)
    assert summary["status"] == "completed"


@pytest.mark.slow
def test_a_single_process_keeps_its_tracker_whatever_its_rank(environment: dict[str, str], tmp_path: Path) -> None:
    done = python(
        *("-m", "intel_scenes.train", *ONE_EPOCH, "logger=csv"), cwd=tmp_path, env=environment | {"LOCAL_RANK": "1"}
    )
    assert done.returncode == 0, done.stderr
    (metrics,) = tmp_path.rglob("metrics.csv")
    assert "val_accuracy" in metrics.read_text()


def test_two_tasks_on_one_sweep_share_its_runs(environment: dict[str, str], tmp_path: Path) -> None:
    def task(number: int) -> Finished:
        own = TASKS | {"SLURM_PROCID": str(number), "SLURM_LOCALID": str(number), "SLURM_NTASKS_PER_NODE": "2"}
        arguments = ("-m", *ONE_EPOCH, "seed=1,2,3", "sweep.name=s")
        return forked("intel_scenes.train", *arguments, cwd=tmp_path, env=environment | own)

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(task, range(2)))
    said = [one.stdout + one.stderr for one in done]
    # 3: the other task was still running when this one ended
    assert 0 in {one.returncode for one in done} <= {0, 3}, said
    assert [summary["status"] for summary in summaries(tmp_path)] == ["completed"] * 3
    shown, complete = (sum(text.count(what) for text in said) for what in ("training time", "is complete"))
    assert shown - complete == 3, "each run is trained once"
